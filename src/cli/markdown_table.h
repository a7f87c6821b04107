/* Tables (GFM) in columns.
 *
 * When rows are shown: the heading and the first MARKDOWN_TABLE_HELD rows are held until the table
 * ends or has that many; then each column is as wide as its widest cell so far, with a little to
 * spare, and the last one takes what is left of the line.  From there on each row is shown when it ends.  A
 * cell that is wider than its column is wrapped inside of it: nothing is cut off.  A terminal too narrow
 * for columns gets each row as lines of "heading: cell". */
#ifndef HOB_MARKDOWN_TABLE_H
#define HOB_MARKDOWN_TABLE_H

#include "cli/markdown_inline.h"

enum {
	MARKDOWN_TABLE_COLUMNS = 32, /* a row of more is no table's */
	MARKDOWN_TABLE_HELD = 4,
	MARKDOWN_TABLE_NARROWEST = 5, /* columns of a column that is squeezed */
	MARKDOWN_ROW_BYTES = 4096     /* a longer line is no row */
};

enum markdown_align { ALIGN_LEFT, ALIGN_RIGHT, ALIGN_CENTRE };

/* A cell's text with the style of each byte. */
struct markdown_cell {
	struct buf text, styles; /* owned; styles: one uint16_t a byte */
};

struct markdown_table {
	struct markdown_wrap *wrap; /* borrowed */
	struct markdown_inline inl; /* of the cell that is read */
	int ncols;                  /* 0: no table */
	enum markdown_align align[MARKDOWN_TABLE_COLUMNS];
	int widths[MARKDOWN_TABLE_COLUMNS];
	bool fixed;   /* the widths are */
	bool records; /* too narrow for columns */
	int nrows;    /* held; row 0 is the heading, which stays for records */
	struct markdown_cell rows[1 + MARKDOWN_TABLE_HELD][MARKDOWN_TABLE_COLUMNS];
};

void markdown_table_init(struct markdown_table *t, struct markdown_wrap *wrap);
void markdown_table_fini(struct markdown_table *t);
/* Cells of a row, which begins with '|'. */
int markdown_table_cells(struct str row);
/* Is this the delimiter row of a heading of ncols cells? */
bool markdown_table_delimits(struct str line, int ncols);
/* The prefix of the wrap is set and its line not open. */
void markdown_table_begin(struct markdown_table *t, struct str head,
			  struct str delimiter);
void markdown_table_row(struct markdown_table *t, struct str row);
void markdown_table_end(struct markdown_table *t);

#endif

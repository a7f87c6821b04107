/* Edit distance with two rows. */
#include "base/nearest.h"

#include <string.h>

enum { WORD_MAX = 64 };

static int min3(int a, int b, int c)
{
	int m = a < b ? a : b;

	return m < c ? m : c;
}

int edit_distance(const char *a, const char *b)
{
	int row[WORD_MAX + 1], n = (int)strnlen(a, WORD_MAX + 1),
			       m = (int)strnlen(b, WORD_MAX + 1);

	if (n > WORD_MAX || m > WORD_MAX)
		return 2 * WORD_MAX;
	for (int j = 0; j <= m; j++)
		row[j] = j;
	for (int i = 1; i <= n; i++) {
		int diagonal = row[0];

		row[0] = i;
		for (int j = 1; j <= m; j++) {
			int above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1,
				      diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[m];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
	int limit = (int)strlen(n->word) / 3, d = edit_distance(n->word, candidate);

	if (limit < 2)
		limit = 2;
	if (d <= limit && (!n->best || d < n->distance)) {
		n->best = candidate;
		n->distance = d;
	}
}

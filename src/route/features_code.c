/* Which languages of programming a text holds.  Pure; any thread.
 *
 * First the labels of fenced blocks: who writes ```python means it.  Without a label, a score: words that
 * are typical of a language, each with a weight and where it must stand, counted twice at most.  A
 * language needs MIN_SCORE from two words at least, one of them an anchor (a word that other languages
 * and prose have no use for), or one word that proves it.  The score decides for precision: a rule that
 * sends code to a code model should not fire on a letter, and a missed snippet costs little.
 *
 * The weights are set by hand against the snippets and the prose of tests/unit/test_features.c. */
#include "route/features.h"

#include "base/nearest.h"

enum { MIN_SCORE = 7, PROOF = 8, MAX_COUNT = 2 };

enum language {
	C,
	CPP,
	PYTHON,
	JAVASCRIPT,
	TYPESCRIPT,
	RUST,
	GO,
	JAVA,
	SHELL,
	SQL,
	HTML,
	CSS,
	CSHARP,
	RUBY,
	PHP,
	KOTLIN,
	SWIFT,
	LUA,
	PERL,
	HASKELL,
	JSON,
	YAML,
	TOML,
	XML,
	MAKE,
	DOCKER,
	SCALA,
	ZIG,
	R,
	LANGUAGES
};

static const char *const names[LANGUAGES] = {
	[C] = "c",
	[CPP] = "cpp",
	[PYTHON] = "python",
	[JAVASCRIPT] = "javascript",
	[TYPESCRIPT] = "typescript",
	[RUST] = "rust",
	[GO] = "go",
	[JAVA] = "java",
	[SHELL] = "shell",
	[SQL] = "sql",
	[HTML] = "html",
	[CSS] = "css",
	[CSHARP] = "csharp",
	[RUBY] = "ruby",
	[PHP] = "php",
	[KOTLIN] = "kotlin",
	[SWIFT] = "swift",
	[LUA] = "lua",
	[PERL] = "perl",
	[HASKELL] = "haskell",
	[JSON] = "json",
	[YAML] = "yaml",
	[TOML] = "toml",
	[XML] = "xml",
	[MAKE] = "make",
	[DOCKER] = "docker",
	[SCALA] = "scala",
	[ZIG] = "zig",
	[R] = "r",
};

/* What people write behind three backticks, beside the name itself. */
static const struct {
	const char *word;
	enum language language;
} aliases[] = {
	{"h", C},
	{"c++", CPP},
	{"cc", CPP},
	{"cxx", CPP},
	{"hpp", CPP},
	{"py", PYTHON},
	{"python3", PYTHON},
	{"pycon", PYTHON},
	{"js", JAVASCRIPT},
	{"jsx", JAVASCRIPT},
	{"mjs", JAVASCRIPT},
	{"node", JAVASCRIPT},
	{"ts", TYPESCRIPT},
	{"tsx", TYPESCRIPT},
	{"rs", RUST},
	{"golang", GO},
	{"sh", SHELL},
	{"bash", SHELL},
	{"zsh", SHELL},
	{"fish", SHELL},
	{"console", SHELL},
	{"shell-session", SHELL},
	{"shellsession", SHELL},
	{"sqlite", SQL},
	{"postgresql", SQL},
	{"mysql", SQL},
	{"htm", HTML},
	{"xhtml", HTML},
	{"scss", CSS},
	{"c#", CSHARP},
	{"cs", CSHARP},
	{"rb", RUBY},
	{"kt", KOTLIN},
	{"pl", PERL},
	{"hs", HASKELL},
	{"jsonc", JSON},
	{"json5", JSON},
	{"yml", YAML},
	{"svg", XML},
	{"makefile", MAKE},
	{"dockerfile", DOCKER},
};

static int language_of(struct str word)
{
	for (int i = 0; i < LANGUAGES; i++)
		if (str_eq_nocase(word, names[i]))
			return i;
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		if (str_eq_nocase(word, aliases[i].word))
			return (int)aliases[i].language;
	return -1;
}

const char *features_code_name(struct str word)
{
	int l = language_of(word);

	return l < 0 ? NULL : names[l];
}

const char *features_code_nearest(const char *word)
{
	struct nearest n = {.word = word};

	for (int i = 0; i < LANGUAGES; i++)
		nearest_offer(&n, names[i]);
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		nearest_offer(&n, aliases[i].word);
	return n.best;
}

/* ---- typical words */

enum {
	A = 1,     /* anchor */
	START = 2, /* of a line, after its indentation */
	END = 4,   /* of a line */
	COLON = 8, /* the line ends with ':' */
	BARE = 16, /* the line does not end with ';' */
	LINE = START | END,
};

struct word {
	enum language language;
	int weight, flags;
	const char *text;
	const char *also; /* stands behind it in the same line; or NULL */
};

static const struct word words[] = {
	{C, 4, START | A, "#include <", NULL},
	{C, 5, START | A, "#include \"", NULL},
	{C, 4, START | A, "#define ", NULL},
	{C, 4, START | A, "#ifdef ", NULL},
	{C, 4, START | A, "#ifndef ", NULL},
	{C, 5, START | A, "typedef struct", NULL},
	{C, 4, START | A, "int main(", NULL},
	{C, 3, START | A, "static int ", "("},
	{C, 3, START | A, "static void ", "("},
	{C, 3, START | A, "void ", "("},
	{C, 3, START | A, "struct ", "{"},
	{C, 3, START | A, "char *", NULL},
	{C, 3, A, "const char *", NULL},
	{C, 2, START, "int ", ";"},
	{C, 2, START, "for (", ";"},
	{C, 2, START, "if (", ")"},
	{C, 3, 0, "malloc(", NULL},
	{C, 3, 0, "free(", ";"},
	{C, 2, 0, "printf(", ";"},
	{C, 3, 0, "sizeof(", NULL},
	{C, 3, 0, "sizeof *", NULL},
	{C, 3, 0, "size_t ", NULL},
	{C, 3, 0, "uint8_t ", NULL},
	{C, 3, 0, "uint32_t ", NULL},
	{C, 3, 0, "uint64_t ", NULL},
	{C, 2, 0, "NULL", NULL},
	{C, 2, 0, "->", ";"},
	{C, 2, START, "return ", ";"},

	{CPP, 4, A, "std::", NULL},
	{CPP, 6, START | A, "#include <iostream>", NULL},
	{CPP, 6, START | A, "#include <vector>", NULL},
	{CPP, 6, START | A, "#include <string>", NULL},
	{CPP, 6, START | A, "#include <memory>", NULL},
	{CPP, 6, START | A, "using namespace ", ";"},
	{CPP, 5, START | A, "template <", NULL},
	{CPP, 5, START | A, "template<", NULL},
	{CPP, 4, START | A, "namespace ", "{"},
	{CPP, 3, LINE | A, "public:", NULL},
	{CPP, 3, LINE | A, "private:", NULL},
	{CPP, 3, 0, "nullptr", NULL},
	{CPP, 3, A, "cout <<", NULL},
	{CPP, 3, 0, "constexpr ", NULL},
	{CPP, 3, 0, "const auto", NULL},
	{CPP, 3, 0, "static_cast<", NULL},

	{PYTHON, 4, START | COLON | A, "def ", "("},
	{PYTHON, 5, START | COLON | A, "async def ", "("},
	{PYTHON, 3, START | COLON, "class ", NULL},
	{PYTHON, 4, START | COLON | A, "elif ", NULL},
	{PYTHON, 4, START | BARE | A, "from ", " import "},
	{PYTHON, 2, START | BARE, "import ", NULL},
	{PYTHON, 8, START | A, "if __name__ ==", NULL},
	{PYTHON, 5, A, "__init__", NULL},
	{PYTHON, 3, START | COLON, "except ", NULL},
	{PYTHON, 3, LINE, "try:", NULL},
	{PYTHON, 2, LINE, "else:", NULL},
	{PYTHON, 3, START | COLON | A, "for ", " in range("},
	{PYTHON, 2, START | COLON, "for ", " in "},
	{PYTHON, 1, START | COLON, "while ", NULL},
	{PYTHON, 1, START | COLON, "if ", NULL},
	{PYTHON, 3, START | COLON, "with open(", NULL},
	{PYTHON, 2, 0, "self.", NULL},
	{PYTHON, 2, BARE | A, "print(", ")"},
	{PYTHON, 1, START | BARE, "return ", NULL},
	{PYTHON, 1, 0, "None", NULL},
	{PYTHON, 1, 0, "True", NULL},
	{PYTHON, 2, 0, "len(", NULL},
	{PYTHON, 2, 0, "lambda ", ":"},
	{PYTHON, 2, 0, "\"\"\"", NULL},
	{PYTHON, 3, START | A, "import numpy as np", NULL},
	{PYTHON, 3, START | A, "import pandas as pd", NULL},
	{PYTHON, 2, 0, "np.", "("},

	{JAVASCRIPT, 3, START | A, "const ", " = "},
	{JAVASCRIPT, 2, START, "let ", " = "},
	{JAVASCRIPT, 2, START, "var ", " = "},
	{JAVASCRIPT, 3, START | A, "function ", ") {"},
	{JAVASCRIPT, 4, START | A, "async function ", "("},
	{JAVASCRIPT, 3, 0, "=> {", NULL},
	{JAVASCRIPT, 2, 0, ") =>", NULL},
	{JAVASCRIPT, 5, A, "console.log(", NULL},
	{JAVASCRIPT, 4, A, "===", ")"},
	{JAVASCRIPT, 4, A, "!==", NULL},
	{JAVASCRIPT, 4, A, "document.", "("},
	{JAVASCRIPT, 3, 0, "= require(", NULL},
	{JAVASCRIPT, 6, START | A, "module.exports", "="},
	{JAVASCRIPT, 5, START | A, "export default ", NULL},
	{JAVASCRIPT, 5, START | A, "export const ", "="},
	{JAVASCRIPT, 5, START | A, "export function ", "("},
	{JAVASCRIPT, 5, START | A, "import ", " from '"},
	{JAVASCRIPT, 5, START | A, "import ", " from \""},
	{JAVASCRIPT, 2, 0, "await ", "("},
	{JAVASCRIPT, 4, A, "JSON.stringify(", NULL},
	{JAVASCRIPT, 4, A, "JSON.parse(", NULL},
	{JAVASCRIPT, 4, A, "new Promise(", NULL},
	{JAVASCRIPT, 4, A, "useState(", NULL},
	{JAVASCRIPT, 2, START, "});", NULL},
	{JAVASCRIPT, 1, START, "return ", ";"},

	{TYPESCRIPT, 6, START | A, "export interface ", "{"},
	{TYPESCRIPT, 4, START | A, "interface ", " {"},
	{TYPESCRIPT, 6, START | A, "export type ", "="},
	{TYPESCRIPT, 4, START | A, "type ", " = {"},
	{TYPESCRIPT, 5, START | A, "import type ", NULL},
	{TYPESCRIPT, 3, 0, ": string", NULL},
	{TYPESCRIPT, 3, 0, ": number", NULL},
	{TYPESCRIPT, 3, 0, ": boolean", NULL},
	{TYPESCRIPT, 3, 0, "): void", NULL},
	{TYPESCRIPT, 3, 0, ": any", NULL},
	{TYPESCRIPT, 4, 0, ": Promise<", NULL},
	{TYPESCRIPT, 3, 0, ": Record<", NULL},
	{TYPESCRIPT, 3, 0, " as const", NULL},

	{RUST, 4, START | A, "fn ", ") {"},
	{RUST, 4, START | A, "fn ", "->"},
	{RUST, 6, START | A, "pub fn ", "("},
	{RUST, 5, START | A, "pub struct ", NULL},
	{RUST, 5, START | A, "async fn ", "("},
	{RUST, 6, START | A, "let mut ", NULL},
	{RUST, 5, START | A, "impl ", "{"},
	{RUST, 5, START | A, "impl<", "{"},
	{RUST, 6, START | A, "use std::", NULL},
	{RUST, 6, A, "println!(", NULL},
	{RUST, 6, START | A, "#[derive(", NULL},
	{RUST, 5, A, "-> Result<", NULL},
	{RUST, 4, A, ".unwrap()", NULL},
	{RUST, 4, A, "&mut ", NULL},
	{RUST, 4, A, "&self", NULL},
	{RUST, 3, 0, "Vec<", NULL},
	{RUST, 3, 0, "&str", NULL},
	{RUST, 2, START, "let ", ";"},
	{RUST, 2, START, "match ", "{"},
	{RUST, 2, 0, "Some(", NULL},
	{RUST, 2, 0, "Ok(", NULL},
	{RUST, 2, 0, "usize", NULL},

	{GO, 3, START | BARE | A, "package ", NULL},
	{GO, 4, START | A, "func ", ") {"},
	{GO, 4, START | A, "func (", ") "},
	{GO, 4, START | A, "func main() {", NULL},
	{GO, 3, 0, " := ", NULL},
	{GO, 4, A, "fmt.", "("},
	{GO, 6, START | A, "if err != nil", NULL},
	{GO, 5, LINE | A, "import (", NULL},
	{GO, 6, START | A, "go func(", NULL},
	{GO, 3, START, "defer ", "("},
	{GO, 6, START | A, "type ", " struct {"},
	{GO, 4, START | A, "type ", " interface {"},
	{GO, 2, 0, "make(", NULL},
	{GO, 4, A, "map[string]", NULL},
	{GO, 3, 0, "[]byte", NULL},
	{GO, 3, 0, "[]string", NULL},
	{GO, 1, 0, "nil", NULL},

	{JAVA, 6, START | A, "public class ", NULL},
	{JAVA, 6, A, "public static void main", NULL},
	{JAVA, 6, A, "System.out.print", NULL},
	{JAVA, 6, START | A, "import java", NULL},
	{JAVA, 5, START | A, "@Override", NULL},
	{JAVA, 4, START | A, "public void ", "("},
	{JAVA, 4, START | A, "private final ", ";"},
	{JAVA, 3, START, "private ", ";"},
	{JAVA, 2, START, "public ", "("},
	{JAVA, 4, START | A, "package ", ";"},
	{JAVA, 4, A, "new ArrayList<", NULL},
	{JAVA, 4, A, "new HashMap<", NULL},
	{JAVA, 2, 0, "List<String>", NULL},
	{JAVA, 2, START, "String ", "="},
	{JAVA, 2, 0, "throws ", "{"},

	{SHELL, 8, START | A, "#!/bin/sh", NULL},
	{SHELL, 8, START | A, "#!/bin/bash", NULL},
	{SHELL, 8, START | A, "#!/usr/bin/env bash", NULL},
	{SHELL, 5, START | A, "if [ ", "]"},
	{SHELL, 5, START | A, "if [[ ", "]]"},
	{SHELL, 4, START | A, "for ", "; do"},
	{SHELL, 4, START | A, "while ", "; do"},
	{SHELL, 2, LINE, "fi", NULL},
	{SHELL, 1, LINE, "done", NULL},
	{SHELL, 4, LINE | A, "esac", NULL},
	{SHELL, 3, START | A, "sudo ", NULL},
	{SHELL, 3, START, "echo \"", "\""},
	{SHELL, 3, START, "echo $", NULL},
	{SHELL, 4, 0, "apt-get install ", NULL},
	{SHELL, 4, 0, "apt install ", NULL},
	{SHELL, 4, START | A, "set -e", NULL},
	{SHELL, 4, START | A, "mkdir -p ", NULL},
	{SHELL, 4, START | A, "curl -", NULL},
	{SHELL, 4, A, "2>&1", NULL},
	{SHELL, 4, A, ">/dev/null", NULL},
	{SHELL, 4, A, "> /dev/null", NULL},
	{SHELL, 4, A, "| grep ", NULL},
	{SHELL, 4, A, "| awk ", NULL},
	{SHELL, 4, A, "| xargs ", NULL},
	{SHELL, 4, A, "| sort", NULL},
	{SHELL, 3, 0, "\"$1\"", NULL},
	{SHELL, 3, 0, "\"$@\"", NULL},
	{SHELL, 3, START, "rm -", NULL},
	{SHELL, 3, START, "git clone ", NULL},
	{SHELL, 3, START, "find . -", NULL},
	{SHELL, 2, 0, "=$(", NULL},

	{SQL, 3, START | A, "SELECT ", NULL},
	{SQL, 3, 0, "FROM ", NULL},
	{SQL, 2, 0, "WHERE ", NULL},
	{SQL, 5, A, "INSERT INTO ", NULL},
	{SQL, 3, 0, "VALUES (", NULL},
	{SQL, 6, START | A, "CREATE TABLE ", NULL},
	{SQL, 6, START | A, "ALTER TABLE ", NULL},
	{SQL, 5, START | A, "UPDATE ", " SET "},
	{SQL, 5, START | A, "DELETE FROM ", NULL},
	{SQL, 3, 0, "GROUP BY ", NULL},
	{SQL, 3, 0, "ORDER BY ", NULL},
	{SQL, 3, 0, "JOIN ", " ON "},
	{SQL, 3, 0, "PRIMARY KEY", NULL},
	{SQL, 2, 0, "NOT NULL", NULL},
	{SQL, 3, 0, "VARCHAR(", NULL},
	{SQL, 2, 0, "COUNT(", NULL},
	{SQL, 5, START | A, "select * from ", NULL},
	{SQL, 3, START | A, "select ", " from "},
	{SQL, 5, START | A, "create table ", "("},
	{SQL, 4, START | A, "insert into ", " values"},
	{SQL, 2, START, "where ", " = "},
	{SQL, 1, 0, "order by ", NULL},
	{SQL, 1, 0, "group by ", NULL},
	{SQL, 3, 0, "primary key", NULL},
	{SQL, 2, 0, "count(*)", NULL},
	{SQL, 2, 0, "not null", NULL},

	{HTML, 8, START | A, "<!DOCTYPE html", NULL},
	{HTML, 8, START | A, "<!doctype html", NULL},
	{HTML, 5, START | A, "<html", ">"},
	{HTML, 4, START | A, "<body", ">"},
	{HTML, 4, START | A, "<head>", NULL},
	{HTML, 4, START | A, "<div", ">"},
	{HTML, 3, 0, "</div>", NULL},
	{HTML, 3, A, "<span", ">"},
	{HTML, 4, A, "<a href=\"", NULL},
	{HTML, 4, A, "<img ", "src="},
	{HTML, 3, A, "<h1", "</h1>"},
	{HTML, 3, START | A, "<ul", ">"},
	{HTML, 2, START, "<li>", NULL},
	{HTML, 2, START, "<p>", NULL},
	{HTML, 3, START | A, "<table", ">"},
	{HTML, 3, START | A, "<button", ">"},
	{HTML, 3, START | A, "<form", ">"},
	{HTML, 3, START | A, "<script", ">"},
	{HTML, 2, 0, "class=\"", NULL},

	{CSS, 5, START | A, "@media ", "{"},
	{CSS, 5, START | A, "display: ", ";"},
	{CSS, 4, START | A, "font-size: ", ";"},
	{CSS, 4, START | A, "font-family: ", ";"},
	{CSS, 4, START | A, "background-color: ", ";"},
	{CSS, 3, START | A, "margin: ", ";"},
	{CSS, 3, START | A, "padding: ", ";"},
	{CSS, 3, START, "color: ", ";"},
	{CSS, 3, START, "border: ", ";"},
	{CSS, 3, START, "width: ", ";"},

	{CSHARP, 6, START | A, "using System", ";"},
	{CSHARP, 6, A, "Console.WriteLine(", NULL},
	{CSHARP, 6, A, "{ get; set; }", NULL},
	{CSHARP, 4, A, "async Task", NULL},
	{CSHARP, 3, START, "namespace ", NULL},
	{CSHARP, 3, START, "public class ", NULL},
	{CSHARP, 2, START, "public ", "("},

	{RUBY, 4, START | A, "puts ", NULL},
	{RUBY, 4, START | A, "require '", NULL},
	{RUBY, 5, A, " do |", NULL},
	{RUBY, 6, START | A, "attr_accessor ", NULL},
	{RUBY, 4, START | A, "elsif ", NULL},
	{RUBY, 3, LINE, "end", NULL},
	{RUBY, 2, START | BARE, "def ", NULL},
	{RUBY, 2, 0, ".each", NULL},

	{PHP, 8, START | A, "<?php", NULL},
	{PHP, 6, A, "$this->", NULL},
	{PHP, 4, START | A, "echo $", ";"},
	{PHP, 6, A, "$_POST[", NULL},
	{PHP, 6, A, "$_GET[", NULL},
	{PHP, 2, START, "$", "="},

	{KOTLIN, 4, START | A, "fun ", "("},
	{KOTLIN, 3, START | A, "val ", " = "},
	{KOTLIN, 6, START | A, "data class ", "("},
	{KOTLIN, 6, START | A, "override fun ", "("},
	{KOTLIN, 6, START | A, "suspend fun ", "("},
	{KOTLIN, 2, BARE, "println(", NULL},
	{KOTLIN, 2, START, "var ", " = "},

	{SWIFT, 8, START | A, "import SwiftUI", NULL},
	{SWIFT, 8, START | A, "import Foundation", NULL},
	{SWIFT, 5, START | A, "guard let ", NULL},
	{SWIFT, 4, START | A, "func ", ") -> "},
	{SWIFT, 3, START, "if let ", NULL},
	{SWIFT, 2, START | BARE, "let ", " = "},
	{SWIFT, 4, START | A, "@State ", NULL},

	{LUA, 6, START | A, "local function ", "("},
	{LUA, 4, START | A, "local ", " = "},
	{LUA, 3, LINE, "end", NULL},
	{LUA, 3, END, " then", NULL},
	{LUA, 2, START, "function ", ")"},
	{LUA, 4, A, " ~= ", NULL},
	{LUA, 4, START | A, "for ", " in ipairs("},
};

enum { NWORDS = ARRAY_LEN(words) };

struct scores {
	int points[LANGUAGES], kinds[LANGUAGES];
	bool anchored[LANGUAGES], proven[LANGUAGES];
	unsigned char counts[NWORDS];
	short first[256], next[NWORDS]; /* words by their first byte */
};

static bool is_word_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

static void index_words(struct scores *s)
{
	memset(s, 0, sizeof *s);
	memset(s->first, -1, sizeof s->first);
	for (int i = NWORDS - 1; i >= 0; i--) {
		unsigned char c = (unsigned char)words[i].text[0];

		s->next[i] = s->first[c];
		s->first[c] = (short)i;
	}
}

/* line: without its newline and the spaces at its end; at: of the word in it. */
static bool stands(const struct word *w, struct str line, size_t at, size_t indent)
{
	size_t n = strlen(w->text), behind = at + n;
	char last = line.ptr[line.len - 1];

	if (n > line.len - at || memcmp(line.ptr + at, w->text, n) != 0)
		return false;
	if ((w->flags & START && at != indent) || (w->flags & END && behind != line.len))
		return false;
	if ((w->flags & COLON && last != ':') || (w->flags & BARE && last == ';'))
		return false;
	if (at > 0 && is_word_byte((unsigned char)w->text[0]) &&
	    is_word_byte((unsigned char)line.ptr[at - 1]))
		return false;
	if (behind < line.len && is_word_byte((unsigned char)w->text[n - 1]) &&
	    is_word_byte((unsigned char)line.ptr[behind]))
		return false;
	return !w->also ||
	       memmem(line.ptr + behind, line.len - behind, w->also, strlen(w->also));
}

static void score(struct scores *s, int i)
{
	const struct word *w = &words[i];

	if (s->counts[i] >= MAX_COUNT)
		return;
	s->kinds[w->language] += s->counts[i] == 0;
	s->counts[i]++;
	s->points[w->language] += w->weight;
	s->anchored[w->language] |= (w->flags & A) != 0;
	s->proven[w->language] |= w->weight >= PROOF;
}

static void score_line(struct scores *s, struct str line)
{
	size_t indent = 0;

	while (line.len && strchr(" \t\r", line.ptr[line.len - 1]))
		line.len--;
	while (indent < line.len && (line.ptr[indent] == ' ' || line.ptr[indent] == '\t'))
		indent++;
	for (size_t at = indent; at < line.len; at++)
		for (int i = s->first[(unsigned char)line.ptr[at]]; i >= 0;
		     i = s->next[i])
			if (s->counts[i] < MAX_COUNT &&
			    stands(&words[i], line, at, indent))
				score(s, i);
}

/* A language that grew out of another has the other's words as well. */
static void inherit(struct scores *s, enum language child, enum language parent)
{
	if (!s->anchored[child] &&
	    !(child == TYPESCRIPT && s->anchored[parent] && s->points[child] >= 6))
		return;
	s->anchored[child] = true;
	s->points[child] += s->points[parent];
	s->kinds[child] += s->kinds[parent];
}

static int best_of(const struct scores *s)
{
	int best = -1;

	for (int i = 0; i < LANGUAGES; i++) {
		bool enough =
			s->points[i] >= MIN_SCORE && s->kinds[i] >= 2 && s->anchored[i];

		if ((enough || s->proven[i]) &&
		    (best < 0 || s->points[i] >= s->points[best]))
			best = i; /* of equals the later one: children follow parents */
	}
	return best;
}

/* ---- lines and fences */

static bool next_line(struct str *rest, struct str *line)
{
	const char *end;

	if (!rest->len)
		return false;
	end = memchr(rest->ptr, '\n', rest->len);
	*line = (struct str){rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
	rest->ptr += line->len;
	rest->len -= line->len;
	if (end) {
		rest->ptr++;
		rest->len--;
	}
	return true;
}

/* CommonMark: up to three spaces, then three or more of ` or ~; info: the first word behind. */
static bool is_fence(struct str line, struct str *info)
{
	size_t i = 0, n = 0;
	char c;

	while (i < line.len && i < 3 && line.ptr[i] == ' ')
		i++;
	c = i < line.len ? line.ptr[i] : 0;
	if (c != '`' && c != '~')
		return false;
	while (i < line.len && line.ptr[i] == c) {
		i++;
		n++;
	}
	while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '{'))
		i++;
	info->ptr = line.ptr + i;
	info->len = 0;
	while (i + info->len < line.len && !strchr(" \t\r{},:", info->ptr[info->len]))
		info->len++;
	return n >= 3;
}

static int add_code(const char *name, const char *out[FEATURES_MAX_CODES], int n)
{
	for (int i = 0; i < n; i++)
		if (out[i] == name)
			return n;
	if (n < FEATURES_MAX_CODES)
		out[n++] = name;
	return n;
}

static int labels(struct str text, const char *out[FEATURES_MAX_CODES])
{
	bool inside = false;
	struct str line, info;
	int n = 0;

	while (next_line(&text, &line)) {
		if (!is_fence(line, &info))
			continue;
		inside = !inside;
		if (inside && info.len && features_code_name(info))
			n = add_code(features_code_name(info), out, n);
	}
	return n;
}

int features_codes(struct str text, const char *out[FEATURES_MAX_CODES])
{
	int n = labels(text, out), best;
	struct scores s;
	struct str line;

	if (n || !text.len)
		return n;
	index_words(&s);
	while (next_line(&text, &line))
		score_line(&s, line);
	inherit(&s, CPP, C);
	inherit(&s, TYPESCRIPT, JAVASCRIPT);
	best = best_of(&s);
	if (best >= 0)
		out[n++] = names[best];
	return n;
}

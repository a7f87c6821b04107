/* The languages that highlight.h knows: rows of words and spans.  Static data.
 *
 * A reader may ask why words of a family share a row (C and C++, JavaScript and TypeScript): a snippet in a chat
 * is often labelled with its neighbour's name, and a keyword too many does no harm. */
#include "cli/highlight.h"

#define STRING(q)                                   \
	{                                           \
		q, q, HIGHLIGHT_STRING, SPAN_ESCAPE \
	}
#define LONG_STRING(q)                                           \
	{                                                        \
		q, q, HIGHLIGHT_STRING, SPAN_ESCAPE | SPAN_LINES \
	}
#define RAW_STRING(q)                              \
	{                                          \
		q, q, HIGHLIGHT_STRING, SPAN_LINES \
	}
#define LINE_COMMENT(s)                       \
	{                                     \
		s, NULL, HIGHLIGHT_COMMENT, 0 \
	}
#define HASH_COMMENT                                    \
	{                                               \
		"#", NULL, HIGHLIGHT_COMMENT, SPAN_WORD \
	}
#define BLOCK_COMMENT                                     \
	{                                                 \
		"/*", "*/", HIGHLIGHT_COMMENT, SPAN_LINES \
	}
#define DECORATOR                                           \
	{                                                   \
		"@", NULL, HIGHLIGHT_DIRECTIVE, SPAN_LETTER \
	}
#define SECTION                                           \
	{                                                 \
		"[", "]", HIGHLIGHT_DIRECTIVE, SPAN_FIRST \
	}
#define END                                    \
	{                                      \
		NULL, NULL, HIGHLIGHT_PLAIN, 0 \
	}

static const struct highlight_span c_spans[] = {
	BLOCK_COMMENT,
	LINE_COMMENT("//"),
	STRING("\""),
	STRING("'"),
	{"#", NULL, HIGHLIGHT_DIRECTIVE, SPAN_FIRST | SPAN_LETTER},
	END};
static const struct highlight_span js_spans[] = {
	BLOCK_COMMENT,    LINE_COMMENT("//"), STRING("\""), STRING("'"),
	LONG_STRING("`"), DECORATOR,          END};
static const struct highlight_span json_spans[] = {BLOCK_COMMENT, LINE_COMMENT("//"),
						   STRING("\""), END};
static const struct highlight_span python_spans[] = {
	LONG_STRING("\"\"\""), LONG_STRING("'''"), STRING("\""), STRING("'"),
	LINE_COMMENT("#"),     DECORATOR,          END};
static const struct highlight_span go_spans[] = {BLOCK_COMMENT,   LINE_COMMENT("//"),
						 STRING("\""),    STRING("'"),
						 RAW_STRING("`"), END};
static const struct highlight_span rust_spans[] = {
	BLOCK_COMMENT,
	LINE_COMMENT("//"),
	LONG_STRING("\""),
	{"'", "'", HIGHLIGHT_STRING, SPAN_ESCAPE | SPAN_CHAR},
	{"#[", "]", HIGHLIGHT_DIRECTIVE, 0},
	{"#![", "]", HIGHLIGHT_DIRECTIVE, 0},
	END};
static const struct highlight_span java_spans[] = {BLOCK_COMMENT,
						   LINE_COMMENT("//"),
						   LONG_STRING("\"\"\""),
						   STRING("\""),
						   STRING("'"),
						   DECORATOR,
						   END};
static const struct highlight_span shell_spans[] = {HASH_COMMENT, LONG_STRING("\""),
						    RAW_STRING("'"), END};
static const struct highlight_span sql_spans[] = {BLOCK_COMMENT, LINE_COMMENT("--"),
						  RAW_STRING("'"), RAW_STRING("\""), END};
static const struct highlight_span html_spans[] = {
	{"<!--", "-->", HIGHLIGHT_COMMENT, SPAN_LINES},
	RAW_STRING("\""),
	RAW_STRING("'"),
	END};
static const struct highlight_span css_spans[] = {BLOCK_COMMENT, STRING("\""),
						  STRING("'"), DECORATOR, END};
static const struct highlight_span lua_spans[] = {
	{"--[[", "]]", HIGHLIGHT_COMMENT, SPAN_LINES},
	LINE_COMMENT("--"),
	{"[[", "]]", HIGHLIGHT_STRING, SPAN_LINES},
	STRING("\""),
	STRING("'"),
	END};
static const struct highlight_span ruby_spans[] = {
	{"=begin", "=end", HIGHLIGHT_COMMENT, SPAN_LINES | SPAN_FIRST},
	LINE_COMMENT("#"),
	LONG_STRING("\""),
	LONG_STRING("'"),
	{"@", NULL, HIGHLIGHT_TYPE, SPAN_LETTER},
	END};
static const struct highlight_span yaml_spans[] = {
	HASH_COMMENT,
	STRING("\""),
	RAW_STRING("'"),
	{"---", NULL, HIGHLIGHT_DIRECTIVE, SPAN_FIRST},
	END};
static const struct highlight_span toml_spans[] = {
	LINE_COMMENT("#"),
	LONG_STRING("\"\"\""),
	RAW_STRING("'''"),
	STRING("\""),
	{"'", "'", HIGHLIGHT_STRING, 0},
	SECTION,
	{";", NULL, HIGHLIGHT_COMMENT, SPAN_FIRST},
	END};
static const struct highlight_span make_spans[] = {LINE_COMMENT("#"),
						   {"$(", ")", HIGHLIGHT_TYPE, 0},
						   {"${", "}", HIGHLIGHT_TYPE, 0},
						   END};
static const struct highlight_span docker_spans[] = {
	{"#", NULL, HIGHLIGHT_COMMENT, SPAN_FIRST}, STRING("\""), STRING("'"), END};
static const struct highlight_span vim_spans[] = {
	{"\"", NULL, HIGHLIGHT_COMMENT, SPAN_FIRST},
	STRING("\""),
	{"'", "'", HIGHLIGHT_STRING, 0},
	END};
static const struct highlight_span lisp_spans[] = {LINE_COMMENT(";"), LONG_STRING("\""),
						   END};
static const struct highlight_span no_spans[] = {END};

static const struct highlight_lang langs[] = {
	{.names = " c h cpp c++ cc cxx hpp cuda cu objc arduino ino glsl ",
	 .keywords =
		 " alignas alignof asm auto break case catch class co_await co_return co_yield "
		 "concept const const_cast consteval constexpr constinit continue decltype "
		 "default delete do dynamic_cast else enum explicit export extern final for "
		 "friend goto if inline mutable namespace new noexcept operator override "
		 "private protected public register reinterpret_cast requires restrict return "
		 "sizeof static static_assert static_cast struct switch template this throw try "
		 "typedef typeid typename typeof union using virtual volatile while _Noreturn "
		 "_Static_assert _Thread_local thread_local __global__ __device__ __host__ ",
	 .types =
		 " bool char char8_t char16_t char32_t double float int int8_t int16_t int32_t "
		 "int64_t intptr_t long ptrdiff_t short signed size_t ssize_t uint8_t uint16_t "
		 "uint32_t uint64_t uintptr_t unsigned void wchar_t FILE NULL nullptr true false "
		 "std string vector map set unique_ptr shared_ptr ",
	 .more = "",
	 .flags = LANG_QUOTED_DIGITS,
	 .spans = c_spans},
	{.names = " python py python3 py3 ipython pycon pyi gyp starlark bazel ",
	 .keywords =
		 " and as assert async await break case class continue def del elif else "
		 "except finally for from global if import in is lambda match nonlocal not or "
		 "pass raise return try while with yield ",
	 .types =
		 " None True False self cls bool bytes dict float int list object set str tuple "
		 "type abs all any enumerate filter input isinstance iter len map max min next "
		 "open print range repr reversed round sorted sum super zip Exception ValueError "
		 "TypeError KeyError IndexError RuntimeError ",
	 .more = "",
	 .spans = python_spans},
	{.names = " javascript js jsx mjs cjs node typescript ts tsx ",
	 .keywords =
		 " abstract as async await break case catch class const continue debugger "
		 "declare default delete do else enum export extends finally for from function "
		 "get if implements import in instanceof interface keyof let namespace new of "
		 "private protected public readonly return set static super switch this throw "
		 "try type typeof var void while with yield ",
	 .types =
		 " any boolean never null number object string symbol true false undefined "
		 "unknown NaN Infinity Array Boolean Date Error JSON Map Math Number Object "
		 "Promise RegExp Set String Symbol console document process window ",
	 .more = "$",
	 .spans = js_spans},
	{.names = " json jsonc json5 jsonl ndjson ",
	 .types = " true false null ",
	 .more = "",
	 .spans = json_spans},
	{.names = " go golang ",
	 .keywords =
		 " break case chan const continue default defer else fallthrough for func go "
		 "goto if import interface map package range return select struct switch type "
		 "var ",
	 .types =
		 " any bool byte complex64 complex128 error float32 float64 int int8 int16 int32 "
		 "int64 rune string uint uint8 uint16 uint32 uint64 uintptr append cap clear "
		 "close copy delete len make max min new panic print println recover true false "
		 "nil iota ",
	 .more = "",
	 .spans = go_spans},
	{.names = " rust rs ",
	 .keywords =
		 " as async await break const continue crate dyn else enum extern fn for if "
		 "impl in let loop match mod move mut pub ref return static struct super trait "
		 "type unsafe use where while ",
	 .types =
		 " bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize "
		 "self Self true false Box Err None Ok Option Rc Arc Result Some String Vec "
		 "HashMap ",
	 .more = "",
	 .spans = rust_spans},
	{.names = " java kotlin kt kts scala groovy gradle csharp cs c# swift dart php ",
	 .keywords =
		 " abstract as assert async await break case catch class const continue def "
		 "default do else enum extends extension final finally for foreach fun func "
		 "function goto guard if implements import in init instanceof interface internal "
		 "is lateinit let match namespace native new object open operator out override "
		 "package private protected protocol public readonly record return sealed static "
		 "strictfp struct super switch synchronized this throw throws trait transient try "
		 "typealias using val var virtual volatile when where while with yield echo ",
	 .types =
		 " boolean bool byte char decimal double float int long short string void Any "
		 "Boolean Double Float Int Integer List Long Map Object Set String Unit true "
		 "false null nil self ",
	 .more = "$",
	 .spans = java_spans},
	{.names =
		 " bash sh shell zsh ksh fish console shell-session terminal powershell ps1 ",
	 .keywords =
		 " case do done elif else esac fi for function if in select then time until "
		 "while break continue exit return local export readonly declare set shift "
		 "source trap unset ",
	 .types =
		 " alias bg cd echo eval exec fg getopts jobs kill printf pwd read test true "
		 "false type ulimit umask wait sudo ",
	 .more = "-",
	 .flags = LANG_DOLLAR,
	 .spans = shell_spans},
	{.names = " sql sqlite postgres postgresql psql mysql plsql tsql ",
	 .keywords =
		 " add all alter and as asc begin between by cascade case check collate column "
		 "commit conflict constraint create cross database default delete desc distinct "
		 "do drop else end except exists explain foreign from full grant group having if "
		 "in index inner insert intersect into is join key left like limit natural not "
		 "nothing null offset on or order outer over partition pragma primary recursive "
		 "references replace returning revoke right rollback select set table then "
		 "transaction trigger truncate union unique update using values view when where "
		 "window with ",
	 .types =
		 " bigint blob bool boolean char date datetime decimal double float int integer "
		 "json jsonb numeric real serial smallint text time timestamp uuid varchar avg "
		 "coalesce count max min sum now true false ",
	 .more = "",
	 .flags = LANG_NOCASE,
	 .spans = sql_spans},
	{.names = " html xml svg xhtml htm vue svelte xaml plist ",
	 .more = "-:",
	 .flags = LANG_MARKUP,
	 .spans = html_spans},
	{.names = " css scss less sass ",
	 .keywords = " important from to ",
	 .types = " auto inherit initial none unset ",
	 .more = "-",
	 .flags = LANG_KEYS,
	 .spans = css_spans},
	{.names = " lua luau ",
	 .keywords =
		 " and break do else elseif end for function goto if in local not or repeat "
		 "return then until while ",
	 .types =
		 " nil true false self assert error ipairs next pairs pcall print require select "
		 "setmetatable string table tonumber tostring type unpack ",
	 .more = "",
	 .spans = lua_spans},
	{.names = " ruby rb ",
	 .keywords =
		 " alias and begin break case class def do else elsif end ensure for if in "
		 "module next not or redo rescue retry return super then undef unless until "
		 "when while yield require require_relative include extend attr_accessor "
		 "attr_reader raise ",
	 .types =
		 " nil true false self puts print p lambda proc new Array Hash String Integer ",
	 .more = "?",
	 .spans = ruby_spans},
	{.names = " yaml yml ",
	 .types = " true false null yes no on off ",
	 .more = "-./",
	 .flags = LANG_KEYS,
	 .spans = yaml_spans},
	{.names = " toml ini conf cfg properties systemd ",
	 .types = " true false yes no on off ",
	 .more = "-",
	 .spans = toml_spans},
	{.names = " make makefile mk gmake automake ",
	 .keywords =
		 " define else endef endif export if ifdef ifeq ifndef ifneq include override "
		 "vpath ",
	 .more = "-./",
	 .flags = LANG_KEYS | LANG_DOLLAR,
	 .spans = make_spans},
	{.names = " diff patch udiff ",
	 .more = "",
	 .flags = LANG_LINES,
	 .spans = no_spans},
	{.names = " dockerfile docker containerfile ",
	 .keywords =
		 " ADD ARG AS CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER "
		 "ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR ",
	 .more = "-",
	 .flags = LANG_DOLLAR,
	 .spans = docker_spans},
	{.names = " vim viml vimscript ",
	 .keywords =
		 " autocmd augroup call catch command else elseif endfor endfunction endif "
		 "endtry endwhile execute finish for function if in inoremap let map nmap "
		 "nnoremap noremap return set setlocal syntax try vnoremap while unlet ",
	 .more = "",
	 .spans = vim_spans},
	{.names = " elisp emacs-lisp lisp clojure clj scheme racket common-lisp ",
	 .keywords =
		 " and case cond condition-case def define defn defcustom defmacro defun "
		 "defvar do dolist fn if lambda let let* letrec loop not ns or progn quote "
		 "require save-excursion set setq unless use-package when while ",
	 .types = " nil t true false ",
	 .more = "-*?!",
	 .spans = lisp_spans},
};

const struct highlight_lang *highlight_lang(struct str name)
{
	char key[HIGHLIGHT_NAME_BYTES + 3];

	if (!name.len || name.len > HIGHLIGHT_NAME_BYTES ||
	    memchr(name.ptr, ' ', name.len))
		return NULL;
	key[0] = ' ';
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		key[i + 1] = c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
	}
	key[name.len + 1] = ' ';
	key[name.len + 2] = 0;
	for (size_t i = 0; i < ARRAY_LEN(langs); i++)
		if (strstr(langs[i].names, key))
			return &langs[i];
	return NULL;
}

/* Sizes and needs of requests, and languages of code: real snippets, and prose that must not match. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "route/features.h"

/* The first language, or "" */
static const char *code_of(const char *text)
{
	const char *codes[FEATURES_MAX_CODES];
	int n = features_codes(str_of(text), codes);

	return n ? codes[0] : "";
}

static const struct {
	const char *language, *text;
} snippets[] = {
	{"c",
	 "why does this leak?\n"
	 "#include <stdlib.h>\n"
	 "int main(void)\n{\n\tchar *p = malloc(10);\n\tp[0] = 1;\n\treturn 0;\n}\n"},
	{"c",
	 "static int find(const struct table *t, const char *name)\n{\n"
	 "\tfor (int i = 0; i < t->n; i++)\n"
	 "\t\tif (!strcmp(t->rows[i].name, name))\n\t\t\treturn i;\n\treturn -1;\n}\n"},
	{"c", "typedef struct node {\n  struct node *next;\n  int value;\n} node_t;\n"
	      "void push(node_t **head, int v) {\n  node_t *n = malloc(sizeof(node_t));\n"
	      "  n->value = v;\n  n->next = *head;\n  *head = n;\n}\n"},
	{"cpp", "#include <vector>\n#include <iostream>\nint main() {\n"
		"  std::vector<int> v{1, 2, 3};\n  for (auto x : v) std::cout << x;\n"
		"  return 0;\n}\n"},
	{"cpp",
	 "template <typename T>\nclass Stack {\npublic:\n  void push(const T &x) {\n"
	 "    items.push_back(x);\n  }\nprivate:\n  std::vector<T> items;\n};\n"},
	{"python", "def fib(n):\n    if n < 2:\n        return n\n"
		   "    return fib(n - 1) + fib(n - 2)\n\nprint(fib(10))\n"},
	{"python", "from pathlib import Path\nimport json\n\nclass Store:\n"
		   "    def __init__(self, path):\n        self.path = Path(path)\n"},
	{"python", "for i in range(10):\n    print(i)\n    if i > 5:\n        break\n"},
	{"python", "import pandas as pd\ndf = pd.read_csv('x.csv')\n"
		   "for name in df.columns:\n    print(name, len(df[name]))\n"},
	{"javascript",
	 "const x = document.getElementById('a');\n"
	 "x.addEventListener('click', () => {\n  console.log('hi');\n});\n"},
	{"javascript", "function add(a, b) {\n  if (a === undefined) return b;\n"
		       "  return a + b;\n}\nmodule.exports = { add };\n"},
	{"javascript", "import React from 'react';\nexport default function App() {\n"
		       "  const [n, setN] = useState(0);\n"
		       "  return <button onClick={() => setN(n + 1)}>{n}</button>;\n}\n"},
	{"typescript", "interface User {\n  name: string;\n  age: number;\n}\n\n"
		       "export const greet = (u: User): string => {\n"
		       "  return `hi ${u.name}`;\n};\n"},
	{"typescript",
	 "async function load(id: number): Promise<Item> {\n"
	 "  const res = await fetch(`/items/${id}`);\n  return res.json();\n}\n"
	 "type Item = {\n  id: number;\n  title: string;\n};\n"},
	{"rust", "fn main() {\n    let mut v = Vec::new();\n    v.push(1);\n"
		 "    println!(\"{:?}\", v);\n}\n"},
	{"rust",
	 "impl Iterator for Counter {\n    type Item = u32;\n"
	 "    fn next(&mut self) -> Option<u32> {\n        Some(self.n)\n    }\n}\n"},
	{"rust",
	 "use std::collections::HashMap;\npub fn count(s: &str) -> HashMap<char, usize> {\n"
	 "    let mut m = HashMap::new();\n    for c in s.chars() {\n"
	 "        *m.entry(c).or_insert(0) += 1;\n    }\n    m\n}\n"},
	{"go", "package main\n\nimport (\n\t\"fmt\"\n)\n\nfunc main() {\n"
	       "\tx := 1\n\tfmt.Println(x)\n}\n"},
	{"go", "func (s *Server) handle(w http.ResponseWriter, r *http.Request) {\n"
	       "\tb, err := io.ReadAll(r.Body)\n\tif err != nil {\n\t\treturn\n\t}\n"
	       "\tw.Write(b)\n}\n"},
	{"java", "public class Main {\n    public static void main(String[] args) {\n"
		 "        System.out.println(\"hi\");\n    }\n}\n"},
	{"java",
	 "import java.util.*;\n\nclass Cache {\n"
	 "    private final Map<String, Integer> m = new HashMap<>();\n"
	 "    @Override\n    public String toString() {\n        return m.toString();\n"
	 "    }\n}\n"},
	{"shell", "#!/bin/sh\necho hello\n"},
	{"shell",
	 "for f in *.txt; do\n  if [ -f \"$f\" ]; then\n    cat \"$f\" | grep foo\n"
	 "  fi\ndone\n"},
	{"shell", "sudo apt-get install nginx\nsudo systemctl restart nginx\n"},
	{"sql", "SELECT name, COUNT(*) FROM users WHERE age > 18 GROUP BY name;"},
	{"sql",
	 "CREATE TABLE t (\n  id INTEGER PRIMARY KEY,\n  name VARCHAR(20) NOT NULL\n);"},
	{"sql", "select * from orders\nwhere total = 5\norder by id"},
	{"html", "<!DOCTYPE html>\n<html><body><p>hi</p></body></html>"},
	{"html", "<div class=\"box\">\n  <a href=\"/x\">x</a>\n</div>\n"},
	{"css", ".box {\n  display: flex;\n  margin: 0 auto;\n  color: red;\n}\n"},
	{"csharp", "using System;\nclass P {\n  static void Main() {\n"
		   "    Console.WriteLine(\"x\");\n  }\n}\n"},
	{"php", "<?php\n$x = 5;\necho $x;\n"},
	{"kotlin", "data class P(val x: Int)\nfun main() {\n    val p = P(1)\n"
		   "    println(p)\n}\n"},
	{"lua", "local function f(x)\n  if x ~= nil then\n    return x\n  end\nend\n"},
	{"ruby", "class A\n  attr_accessor :x\n  def go\n    @x.each do |y|\n"
		 "      puts y\n    end\n  end\nend\n"},
};

static void snippets_are_recognised(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof snippets / sizeof *snippets; i++)
		if (strcmp(code_of(snippets[i].text), snippets[i].language))
			fail_msg("snippet %zu is '%s' and not '%s':\n%s", i,
				 code_of(snippets[i].text), snippets[i].language,
				 snippets[i].text);
}

static void prose_is_no_code(void **state)
{
	static const char *const texts[] = {
		"",
		"Hello, how are you?",
		"What is the difference between a class and an interface in Java?",
		"Explain why Python uses import and from ... import, and what def means.",
		"If you select one from the list, order by price, and group by name, where "
		"would you put the rest?",
		"select the best wine from this list\nwhere it was grown matters\n"
		"order by year",
		"Please fix the following:\nfor the first point:\nif you can:\n"
		"while you are at it:\nwith care:\nelse:\n",
		"Dear Sir,\nimport duties are due; export of goods is free.\n"
		"return to sender;\nlet us know.\nvar is short for variance.\n",
		"I have a function f(x) = x^2 and a constant c. Let y = f(c). What is y?",
		"Let n = 5 and m = 7.\nlet us say k = n + m\nconst folks say k = 12\n",
		"The package main street hotel is good. Type A people struct ure their day.",
		"- public: yes\n- private: no\n- try: maybe\n",
		"name: string theory\nid: number of the beast\n",
		"openapi: 3.0.0\nproperties:\n  id:\n    type: string\n  n:\n"
		"    type: number\n  b:\n    type: boolean\n",
		"echo chamber effects are described in Sunstein (2001). do you agree; done?\n"
		"fi\ndone\nsudo make me a sandwich",
		"He said -> go there; she said => come here. 5 === 5? NULL and void.",
		"Translate: 'Der Ausdruck a != b ist wahr.' Bitte als Tabelle.",
		"請把這段文字翻譯成英文,謝謝。",
		"puts and calls are options. Print (in red) the total. None of it is True.",
		"Use `printf(\"x\")` or `console.log(x)`; which one is C?",
		"color: red or blue? width: how wide? margin: thin.",
		"The <b>bold</b> tag and the <i>italic</i> tag, what do they do?",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (code_of(texts[i])[0])
			fail_msg("prose %zu is '%s':\n%s", i, code_of(texts[i]),
				 texts[i]);
}

static void labels_of_fences_win(void **state)
{
	const char *codes[FEATURES_MAX_CODES];
	int n = features_codes(
		STR("Convert this:\n```C++\nint x;\n```\nto\n~~~ {python3 x=1}\n"
		    "x\n~~~\nas\n```cpp\ny\n```\n"),
		codes);

	(void)state;
	assert_int_equal(n, 2);
	assert_string_equal(codes[0], "cpp");
	assert_string_equal(codes[1], "python");
	assert_string_equal(code_of("```\ndef f(x):\n    return len(x)\n```\n"),
			    "python");
	assert_string_equal(code_of("```text\nnothing\n```\n"), "");
	assert_string_equal(code_of("```c"), "c");
	assert_string_equal(code_of("   ```js\nx\n   ```"), "javascript");
	/* the second one closes the first and labels nothing */
	assert_string_equal(code_of("```text\nx\n```python\n"), "");
}

static void no_more_languages_than_fit(void **state)
{
	const char *codes[FEATURES_MAX_CODES];

	(void)state;
	assert_int_equal(
		features_codes(STR("```c\n```\n```go\n```\n```sql\n```\n```rust\n```\n"
				   "```java\n```\n"),
			       codes),
		FEATURES_MAX_CODES);
	assert_string_equal(codes[3], "rust");
}

static void names_and_what_people_call_them(void **state)
{
	(void)state;
	assert_string_equal(features_code_name(STR("C#")), "csharp");
	assert_string_equal(features_code_name(STR("Bash")), "shell");
	assert_string_equal(features_code_name(STR("ts")), "typescript");
	assert_null(features_code_name(STR("english")));
	assert_null(features_code_name(STR("")));
	assert_string_equal(features_code_nearest("pythn"), "python");
}

static void tokens_images_and_the_last_message_are_counted(void **state)
{
	struct message m[] = {
		{.role = ROLE_SYSTEM, .text = "1234567"},
		{.role = ROLE_USER,
		 .text = "look",
		 .raw_json = "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
			     "\"image_url\":{\"url\":\"data:...\"}},{\"type\":\"text\","
			     "\"text\":\"\\\"type\\\":\\\"image_url\\\"\"}]}"},
		{.role = ROLE_ASSISTANT, .text = "a cat"},
	};
	struct request r = {.sampling = {.max_tokens = 77}, .client_name = "zed"};
	struct features f;

	(void)state;
	features_of(&r, m, 3, &f);
	assert_int_equal(f.nimages, 1); /* the one in a string is text */
	assert_int_equal(f.prompt_tokens, 2 + 4 + 1 + 4 + 1000 + 1 + 4);
	assert_int_equal(f.output_tokens, 77);
	assert_true(str_eq(f.last_user, "look"));
	assert_string_equal(f.client, "zed");
	assert_false(f.tools || f.structured);
}

static void needs_are_read_from_the_other_fields(void **state)
{
	static const struct {
		const char *extra;
		bool tools, structured;
	} cases[] = {
		{"{\"tools\":[{\"type\":\"function\"}]}", true, false},
		{"{\"tools\":[]}", false, false},
		{"{\"tools\":[{}],\"tool_choice\":\"none\"}", false, false},
		{"{\"functions\":[{}]}", true, false},
		{"{\"response_format\":{\"type\":\"json_schema\"}}", false, true},
		{"{\"response_format\":{\"type\":\"json_object\"}}", false, true},
		{"{\"response_format\":{\"type\":\"text\"}}", false, false},
		{"{\"user\":\"x\"}", false, false},
		{"[1]", false, false},
		{"{", false, false},
	};
	struct message called = {.role = ROLE_TOOL, .text = "42"};
	struct request r = {0};
	struct features f;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		r.extra_json = (char *)cases[i].extra;
		features_of(&r, NULL, 0, &f);
		if (f.tools != cases[i].tools || f.structured != cases[i].structured)
			fail_msg("case %zu", i);
	}
	r.extra_json = NULL;
	features_of(&r, &called, 1, &f);
	assert_true(f.tools);
}

static void long_messages_are_cut_between_characters(void **state)
{
	size_t n = FEATURES_SCAN_BYTES + 100;
	char *text = xmalloc(n + 1);
	struct message m = {.role = ROLE_USER, .text = text};
	struct request r = {0};
	struct features f;

	(void)state;
	text[0] = 'x';
	for (size_t i = 1; i + 1 < n; i += 2)
		memcpy(text + i, "\xC3\xA9", 2);
	text[n - 1] = 'x';
	text[n] = '\0';
	features_of(&r, &m, 1, &f);
	assert_int_equal(f.last_user.len, FEATURES_SCAN_BYTES - 1);
	free(text);
}

static void random_bytes_are_read_without_harm(void **state)
{
	static const char alphabet[] = "` ~\n\tcdef:;(){}<>#=-_ai\"'$@&*./\xC3\xA9";
	const char *codes[FEATURES_MAX_CODES];
	uint64_t x = 88172645463325252u;
	char text[512];

	(void)state;
	for (int i = 0; i < 3000; i++) {
		size_t n = (size_t)(i % 512);

		for (size_t k = 0; k < n; k++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			text[k] = alphabet[x % (sizeof alphabet - 1)];
		}
		assert_in_range(features_codes((struct str){text, n}, codes), 0,
				FEATURES_MAX_CODES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snippets_are_recognised),
		cmocka_unit_test(prose_is_no_code),
		cmocka_unit_test(labels_of_fences_win),
		cmocka_unit_test(no_more_languages_than_fit),
		cmocka_unit_test(names_and_what_people_call_them),
		cmocka_unit_test(tokens_images_and_the_last_message_are_counted),
		cmocka_unit_test(needs_are_read_from_the_other_fields),
		cmocka_unit_test(long_messages_are_cut_between_characters),
		cmocka_unit_test(random_bytes_are_read_without_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

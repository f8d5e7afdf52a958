//! Tables and properties of rendered replies.

use proptest::prelude::*;

use super::*;

fn rendered(reply: &Reply) -> String {
    String::from_utf8(reply.render()).unwrap()
}

#[test]
fn replies_render_as_rfc_959_says() {
    assert_eq!(rendered(&Reply::new(200, "NOOP ok")), "200 NOOP ok\r\n");
    assert_eq!(
        rendered(&Reply::multi_line(
            211,
            ["Features:", "UTF8", "211 x", ""],
            "End"
        )),
        "211-Features:\r\n UTF8\r\n 211 x\r\n \r\n211 End\r\n"
    );
    assert_eq!(
        rendered(&Reply::multi_line(214, [] as [&str; 0], "Help")),
        "214 Help\r\n"
    );
    assert_eq!(rendered(&Reply::new(12, "x")), "451 x\r\n");
}

#[test]
fn text_cannot_end_a_line() {
    assert_eq!(
        rendered(&Reply::new(550, "a\r\n226 \0ok\x1b[0m\u{85}\u{e9}")),
        "550 a\\r\\n226 \\u{0}ok\\u{1b}[0m\\u{85}\u{e9}\r\n"
    );
    assert_eq!(
        rendered(&Reply::multi_line(211, ["a\n211 b"], "c\n")),
        "211-a\\n211 b\r\n211 c\\n\r\n"
    );
}

#[test]
fn quotes_are_doubled() {
    assert_eq!(quote("/"), "\"/\"");
    assert_eq!(quote("/a\"b\"\"c"), "\"/a\"\"b\"\"\"\"c\"");
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let line = "[ -~é\r\n\0]{0,30}|211[- ].{0,9}|.{0,20}";
    (100u16..600, prop::collection::vec(line, 0..6), line)
        .prop_map(|(code, head, last)| Reply::multi_line(code, head, last))
}

proptest! {
    #[test]
    fn rendered_lines_are_as_many_as_given_and_only_the_last_ends(reply in any_reply()) {
        let text = rendered(&reply);
        let lines: Vec<_> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
        prop_assert_eq!(lines.len(), reply.lines().count());
        prop_assert!(!text.replace("\r\n", "").chars().any(char::is_control));
        let end = format!("{} ", reply.code());
        prop_assert_eq!(lines.iter().filter(|line| line.starts_with(&end)).count(), 1);
        prop_assert!(lines.last().unwrap().starts_with(&end));
    }
}

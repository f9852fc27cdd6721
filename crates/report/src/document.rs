//! The skeleton of every page: head, header, contents and main part, in one file without scripts
//! and without addresses to anywhere.

use crate::markup::Markup;

const STYLE: &str = include_str!("style.css");

/// What every page says of who made it, and no page of others says.
pub(crate) const MARK: &str = r#"<meta name="generator" content="lethe"/>"#;

/// What stands around the main part of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'a> {
    pub(crate) title: &'a str,
    /// One line below the title.
    pub(crate) facts: &'a str,
    /// Sections: id and name.
    pub(crate) contents: &'a [(&'a str, &'a str)],
}

impl Document<'_> {
    /// The whole page around `main`.
    pub(crate) fn around(&self, main: &Markup) -> String {
        let mut page = Markup::new();
        page.constant("<!DOCTYPE html>\n").element("html", &[("lang", "en")], |html| {
            html.element("head", &[], |head| self.write_head(head));
            html.line().element("body", &[], |body| {
                self.write_header(body);
                body.element("main", &[], |place| {
                    place.append(main);
                });
            });
        });
        page.line();
        page.as_str().to_owned()
    }

    fn write_head(&self, head: &mut Markup) {
        head.void("meta", &[("charset", "utf-8")]).constant(MARK);
        let viewport = "width=device-width, initial-scale=1";
        head.void("meta", &[("name", "viewport"), ("content", viewport)]);
        head.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
        head.leaf("title", &[], self.title);
        head.element("style", &[], |style| {
            style.constant(STYLE);
        });
    }

    fn write_header(&self, body: &mut Markup) {
        body.element("header", &[], |header| {
            header.leaf("h1", &[], self.title);
            header.leaf("p", &[("class", "facts")], self.facts);
            header.element("nav", &[("aria-label", "Sections")], |nav| {
                for (id, name) in self.contents {
                    nav.leaf("a", &[("href", &format!("#{id}"))], name).text(" ");
                }
            });
        });
        body.line();
    }
}

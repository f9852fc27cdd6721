//! HTML and SVG text into which nothing gets unescaped.
//!
//! Names of elements and attributes are string literals; every text and every attribute value is
//! escaped here, so that a class name like `<script>` stays a name.

/// A piece of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Markup(String);

/// Attributes of an element.
pub(crate) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Markup {
    /// An empty piece.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The text so far.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends escaped text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // These turn the direction of writing or are not seen: what stands there would look like something else.
                // The two joiners, U+200C and U+200D, belong to the spelling of some languages.
                '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}' => self.0.push('\u{FFFD}'),
                // Control characters are not allowed in a page; their place stays visible.
                control if control.is_control() && !matches!(control, '\n' | '\t') => {
                    self.0.push('\u{FFFD}');
                }
                other => self.0.push(other),
            }
        }
        self
    }

    /// Appends an element with what `inside` appends to it.
    pub(crate) fn element(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.start(name, attributes);
        self.0.push('>');
        inside(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    /// Appends an element that holds a text.
    pub(crate) fn leaf(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        text: &str,
    ) -> &mut Self {
        self.element(name, attributes, |inside| {
            inside.text(text);
        })
    }

    /// Appends an element without content.
    pub(crate) fn void(&mut self, name: &'static str, attributes: Attributes<'_>) -> &mut Self {
        self.start(name, attributes);
        self.0.push_str("/>");
        self
    }

    /// Appends another piece.
    pub(crate) fn append(&mut self, piece: &Self) -> &mut Self {
        self.0.push_str(&piece.0);
        self
    }

    /// Appends a constant piece of the page's own, such as its style.
    pub(crate) fn constant(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends a line break in the source, for a readable page.
    pub(crate) fn line(&mut self) -> &mut Self {
        self.0.push('\n');
        self
    }

    fn start(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0.push_str(attribute);
            self.0.push_str("=\"");
            self.text(value);
            self.0.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_cannot_leave_their_place() {
        let mut markup = Markup::new();
        markup.leaf("p", &[("title", "\"><script>alert(1)</script>")], "</style>&'\u{0}\u{202e}");
        assert_eq!(
            markup.as_str(),
            "<p title=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\">&lt;/style&gt;&amp;&#39;\u{FFFD}\u{FFFD}</p>"
        );
    }

    #[test]
    fn elements_nest() {
        let mut markup = Markup::new();
        markup.element("ul", &[], |list| {
            list.leaf("li", &[], "a").void("br", &[("class", "x")]);
        });
        assert_eq!(markup.as_str(), "<ul><li>a</li><br class=\"x\"/></ul>");
    }
}

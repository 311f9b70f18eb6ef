//! Elements as data, written with escapes: a name or a path stays a name or a path, whatever it
//! contains.

use std::fmt::Display;

use agentvm_core::names::short_hash;
use quick_xml::Writer;
use quick_xml::events::{BytesText, Event};

use crate::HvError;

/// An element with attributes, and a text or children.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Element>,
    text: Option<String>,
}

/// An empty element.
pub fn el(name: &'static str) -> Element {
    Element { name, attributes: Vec::new(), children: Vec::new(), text: None }
}

impl Element {
    pub fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    pub fn text(mut self, text: impl Display) -> Self {
        self.text = Some(text.to_string());
        self
    }

    pub fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The document. Characters that XML has no way to carry are refused.
    pub fn render(&self) -> Result<String, HvError> {
        self.check()?;
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer).map_err(HvError::failed(WHAT))?;
        String::from_utf8(writer.into_inner()).map_err(HvError::failed(WHAT))
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let attributes = self.attributes.iter().map(|(name, value)| (*name, value.as_str()));
        let element = writer.create_element(self.name).with_attributes(attributes);
        match (&self.text, self.children.is_empty()) {
            (Some(text), _) => element.write_text_content(BytesText::new(text))?,
            (None, true) => element.write_empty()?,
            (None, false) => element.write_inner_content(|inner| {
                self.children.iter().try_for_each(|child| child.write(inner))
            })?,
        };
        Ok(())
    }

    fn check(&self) -> Result<(), HvError> {
        let values = self.attributes.iter().map(|(_, value)| value).chain(&self.text);
        for value in values {
            if let Some(odd) =
                value.chars().find(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
            {
                return Err(refused(format!("{value:?} holds the character {odd:?}")));
            }
        }
        self.children.iter().try_for_each(Element::check)
    }
}

const WHAT: &str = "write a domain's XML";

fn refused(detail: String) -> HvError {
    HvError::Refused { what: WHAT.to_owned(), detail }
}

/// A UUID that is derived of these parts, as libvirt writes it.
pub fn uuid(parts: &[&str]) -> String {
    let hash = short_hash(parts, 32);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hash[part]).join("-")
}

/// The text of the first element whose local name is `name`, with its escapes undone.
pub fn text_of(document: &str, name: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(document);
    let mut inside = false;
    let mut text = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => inside |= start.local_name().as_ref() == name,
            Event::Text(part) if inside => text.push_str(&part),
            Event::GeneralRef(reference) if inside => text.push_str(&resolve(&reference)?),
            Event::CData(part) if inside => text.push_str(&part),
            Event::End(end) if inside && end.local_name().as_ref() == name => return Some(text),
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// An attribute of the first element of this local name.
pub fn attribute_of(document: &str, element: &str, attribute: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(document);
    loop {
        let start = match reader.read_event().ok()? {
            Event::Start(start) | Event::Empty(start) => start,
            Event::Eof => return None,
            _ => continue,
        };
        if start.local_name().as_ref() == element {
            let found = start.try_get_attribute(attribute).ok()??;
            return Some(
                found.normalized_value(quick_xml::XmlVersion::default()).ok()?.into_owned(),
            );
        }
    }
}

fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Option<String> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character.to_string());
    }
    quick_xml::escape::resolve_predefined_entity(reference).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_read_back_as_it_was(text in "[^\\p{Cc}\u{fffe}\u{ffff}]{1,60}") {
            let document = el("a").child(el("x:machine").attr("xmlns:x",
                "u").text(&text)).render().unwrap();
            prop_assert_eq!(text_of(&document, "machine").unwrap(), text);
        }

        #[test]
        fn an_attribute_adds_no_element(value in "[^\\p{Cc}]{0,60}") {
            let document = el("a").child(el("b").attr("c", &value)).render().unwrap();
            // <a>, <b/>, </a>
            prop_assert_eq!((document.matches('<').count(), document.matches('>').count()), (3, 3));
        }
    }

    #[test]
    fn what_xml_cannot_carry_is_refused() {
        assert!(el("a").attr("b", "x\ny").render().is_err());
        assert!(el("a").child(el("b").text("\u{1}")).render().is_err());
    }
}

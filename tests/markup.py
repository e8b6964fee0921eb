"""Reads HTML in tests, strictly: tags match, and addresses are collected."""

from html.parser import HTMLParser

ADDRESSES = ("src", "href", "poster", "srcset", "data", "xlink:href", "action")
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Elements(HTMLParser):
    """Collects texts by element; fails where the tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.addresses = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ADDRESSES]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def text_of(self, tag):
        return "".join(text for element, text in self.texts if element == tag)

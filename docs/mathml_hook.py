"""Makes MathML of the pages' formulas when mkdocs builds, which browsers draw without a script."""

import html
import re

import latex2mathml.converter

# What pymdownx.arithmatex leaves of `$...$` and `$$...$$`.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_content(content: str, **_) -> str:
  """Called by mkdocs with each page's HTML."""

  def draw(formula: re.Match) -> str:
    display = 'block' if formula[2] == '[' else 'inline'
    return latex2mathml.converter.convert(html.unescape(formula[3]).strip(), display=display)

  return _FORMULA.sub(draw, content)

"""Pictures of the page and of the text, in a directory.

Arguments: the page, the text, the directory.
"""

import html
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from chromium import Browser  # noqa: E402

# From the top of one element to the end of another
BETWEEN = '''(() => {
    const top = document.querySelector(%r).getBoundingClientRect().top + scrollY;
    const end = document.querySelector(%r).getBoundingClientRect().bottom + scrollY;
    return [Math.max(top - 6, 0), end - top + 14] })()'''

OPEN_FAILED = '''[...document.querySelectorAll('.events details')]
    .find(d => d.querySelector('.type').textContent == 'invoice.payment_failed').open = true'''

TERMINAL = '''<!DOCTYPE html><meta charset="utf-8"><style>body { margin: 0; padding: 14px 18px; width: max-content;
    background: #14181f; color: #d7dce4 } pre { margin: 0; font: 15px/1.25 "DejaVu Sans Mono", monospace }</style>
    <pre>%s</pre>'''


def main(page_file, text_file, directory):
    url = 'file://' + page_file
    with Browser() as browser:
        page = browser.page(width=1200)
        page.open(url)
        page.picture(f'{directory}/dashboard.png', clip=page.evaluate(BETWEEN % ('header', '#charts')))
        page.scheme('dark')
        page.evaluate(OPEN_FAILED)
        page.picture(f'{directory}/dashboard-trace.png',
                     clip=page.evaluate(BETWEEN % ('#incidents', '.events > li:nth-child(4)')))
        page = browser.page(width=360)
        page.open(url)
        page.picture(f'{directory}/dashboard-phone.png', clip=[0, 1100])
        terminal = page_file.replace('.html', '-text.html')
        with open(text_file, encoding='utf-8') as text, open(terminal, 'w', encoding='utf-8') as out:
            out.write(TERMINAL % html.escape(text.read()))
        page = browser.page(width=1200)
        page.open('file://' + terminal)
        width, height = page.evaluate('[document.body.offsetWidth, document.body.offsetHeight]')
        page.size(width)
        page.picture(f'{directory}/dashboard-text.png', clip=[0, height])


main(*sys.argv[1:])

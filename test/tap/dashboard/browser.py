"""What a browser makes of the pages that chromium.pl has written.

Arguments: a directory of pages, the text that is hostile.  Prints "ok - ..." and
"not ok - ..." lines, with the faults as "# ..." after them.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../lib'))
from chromium import Browser  # noqa: E402

WIDTHS = (320, 360, 480, 641, 768, 1024, 1280, 1600)

OPEN = "document.querySelectorAll('details').forEach(d => { d.open = true })"

# Elements that the page is made of, and no others
ELEMENTS = set('''html head meta title style body header main footer section h1 h2 h3 p b bdi
    small span code pre dl dt dd div ul ol li time details summary figure figcaption svg g
    rect line path text desc defs pattern article'''.split())

STRUCTURE = '''({
    names: [...new Set([...document.querySelectorAll('*')].map(e => e.localName))],
    handlers: [...document.querySelectorAll('*')].flatMap(e => [...e.attributes])
        .map(a => a.name).filter(name => name.startsWith('on')),
    attributes: [...document.querySelectorAll('[src],[href],[action],[style]')].length,
    sections: document.querySelectorAll('main section').length,
    labelled: [...document.querySelectorAll('[aria-labelledby]')].every(e =>
        e.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id)?.textContent)),
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
    landmarks: ['header', 'main', 'footer'].map(n => document.querySelectorAll('body > ' + n).length),
    levels: [...document.querySelectorAll('h1,h2,h3')].map(h => +h.localName[1]),
    lang: document.documentElement.lang,
    pwned: typeof window.pwned,
    title: document.title,
})'''

# Texts and marks whose contrast with what is behind them is too low
CONTRAST = '''(() => {
    const parse = c => { const n = c.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1] };
    const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
    const luminance = c => {
        const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b };
    const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) };
    const behind = e => {
        const layers = [];
        for (; e; e = e.parentElement)
            if (!(e instanceof SVGElement)) layers.push(parse(getComputedStyle(e).backgroundColor));
        const canvas = matchMedia('(prefers-color-scheme: dark)').matches && !matchMedia('print').matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
        return layers.reverse().reduce((under, top) => over(top, under), canvas) };
    const faults = [];
    let looked = 0;
    for (const e of document.querySelectorAll('body *')) {
        const style = getComputedStyle(e), svg = e instanceof SVGElement;
        const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !['title', 'desc'].includes(e.localName);
        const mark = svg && e.matches('.bars rect, .failed rect, .line, .dashes, .area, #hatch rect');
        if (!text && !mark || !(mark || e.getClientRects().length)) continue;
        const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
        const paint = !svg ? style.color : e.matches('.line, .dashes, .area') ? style.stroke : style.fill;
        const ground = behind(e), got = ratio(over(parse(paint), ground), ground);
        looked++;
        if (got < (mark || large ? 3 : 4.5)) faults.push(`${got.toFixed(2)} ${e.localName}.${e.getAttribute('class')} ${e.textContent.slice(0, 30)}`);
    }
    return { looked, faults: [...new Set(faults)].slice(0, 10) };
})()'''


def report(name, faults):
    print('not ok' if faults else 'ok', '-', name)
    for fault in faults:
        print('#', str(fault).replace('\n', ' ')[:300])


def structure(page, name):
    found = page.evaluate(STRUCTURE)
    levels = found['levels']
    report(f'{name}: elements, attributes, landmarks, headings', [
        fault for fault, wrong in (
            (f"elements {set(found['names']) - ELEMENTS}", set(found['names']) - ELEMENTS),
            (f"handlers {found['handlers']}", found['handlers']),
            (f"{found['attributes']} attributes that load or style", found['attributes']),
            ('a script has run', found['pwned'] != 'undefined'),
            (f"{found['sections']} sections", found['sections'] != 8),
            ('a label leads nowhere', not found['labelled']),
            ('an id is there twice', len(set(found['ids'])) != len(found['ids'])),
            (f"landmarks {found['landmarks']}", found['landmarks'] != [1, 1, 1]),
            ('a level of headings is left out',
             levels[0] != 1 or any(b - a > 1 for a, b in zip(levels, levels[1:]))),
            (f"lang {found['lang']}", found['lang'] != 'en'),
        ) if wrong])
    return found['title']


def look(browser, name, url, hostile):
    page = browser.page()
    page.open(url)
    report(f'{name}: asks for nothing, says nothing',
           [f'request {r}' for r in page.requests if r != url] + page.messages)
    title = structure(page, name)
    if name == 'hostile':
        report('hostile: names are shown as they are',
               [] if hostile in page.evaluate('document.body.textContent') else ['not in the page'])
        report('hostile: the title is a title', [] if 'stripe_sync' in title else [title])
    page.evaluate(OPEN)
    faults = []
    for width in WIDTHS:
        page.size(width)
        got = page.evaluate('document.scrollingElement.scrollWidth')
        if got > width:
            faults.append(f'{got} in {width}')
    report(f'{name}: no wider than the window, from {WIDTHS[0]} to {WIDTHS[-1]}', faults)
    page.size(1280)
    for scheme in ('light', 'dark'):
        page.scheme(scheme)
        found = page.evaluate(CONTRAST)
        report(f"{name}: contrast, {scheme}",
               found['faults'] if found['looked'] > 20 else [f"{found['looked']} texts"])
    page.call('Emulation.setEmulatedMedia', media='print',
              features=[{'name': 'prefers-color-scheme', 'value': 'dark'}])
    report(f'{name}: contrast, printed', page.evaluate(CONTRAST)['faults'])


def planted(browser, directory, url):
    """The test sees what it looks for, and the policy forbids it."""
    bad = os.path.join(directory, 'planted.html')
    with open(url[7:], encoding='utf-8') as file:
        text = file.read()
    plant = ('<img src="http://127.0.0.1:9/planted.png" onerror="console.log(1)">'
             '<script>window.pwned = 1; console.log("planted")</script>'
             '<p style="color:#777;background:#888;width:2000px">planted</p></main>')
    page = browser.page(width=1600)
    with open(bad, 'w', encoding='utf-8') as file:
        file.write(text.replace('</main>', plant))
    page.open('file://' + bad)
    report('the policy forbids scripts and requests, and that is heard', [] if
           page.evaluate('typeof window.pwned') == 'undefined' and
           any('Content Security Policy' in m for m in page.messages) else page.messages or ['nothing'])
    with open(bad, 'w', encoding='utf-8') as file:
        file.write(text.replace('</main>', plant).replace('http-equiv="Content-Security-Policy"', 'name="none"'))
    page.open('file://' + bad)
    report('without the policy a request is seen',
           [] if any('planted.png' in r for r in page.requests) else page.requests)
    report('... and a message', [] if any('planted' in m for m in page.messages) else ['none'])
    report('... and a low contrast', [] if any('planted' in f for f in page.evaluate(CONTRAST)['faults']) else ['none'])
    report('... and what is too wide',
           [] if page.evaluate('document.scrollingElement.scrollWidth') > 1600 else ['not seen'])


def main(directory, hostile):
    with Browser() as browser:
        names = sorted(n[:-5] for n in os.listdir(directory) if n.endswith('.html'))
        for name in names:
            look(browser, name, f'file://{directory}/{name}.html', hostile)
        planted(browser, directory, f'file://{directory}/{names[0]}.html')


main(*sys.argv[1:])

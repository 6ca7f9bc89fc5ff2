"""A headless Chromium, driven by its DevTools protocol over a pipe.

    with Browser() as browser:
        page = browser.page(width=320, scheme='dark')
        page.open('file:///tmp/page.html')
        page.evaluate('document.title')

Everything that the page asks for and says is kept: page.requests, page.messages.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

LIMIT = 60  # seconds for an answer


def find():
    """The path of a Chromium, or None."""
    for name in ('chromium', 'chromium-browser', 'google-chrome'):
        path = shutil.which(name)
        if path:
            return path
    return None


class Browser:
    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix='chromium.')
        theirs_in, self.commands = os.pipe()
        self.answers, theirs_out = os.pipe()
        self.process = subprocess.Popen(
            [find(), '--headless=new', '--no-sandbox', '--disable-gpu',
             '--disable-dev-shm-usage', '--disable-extensions', '--no-first-run',
             '--disable-background-networking', '--disable-component-update',
             '--disable-sync', '--hide-scrollbars', '--allow-file-access-from-files=false',
             '--force-color-profile=srgb', '--remote-debugging-pipe',
             f'--user-data-dir={self.profile}', 'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, close_fds=False,
            env={**os.environ, 'HOME': self.profile},
            preexec_fn=lambda: self.give(theirs_in, theirs_out))
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b''
        self.number = 0
        self.events = []
        return self

    @staticmethod
    def give(commands, answers):
        """Chromium reads commands from descriptor 3 and answers to 4."""
        commands, answers = os.dup(commands), os.dup(answers)
        while commands in (3, 4):
            commands = os.dup(commands)
        while answers in (3, 4):
            answers = os.dup(answers)
        os.dup2(commands, 3)
        os.dup2(answers, 4)

    def __exit__(self, *_):
        os.close(self.commands)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.answers)
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, until):
        """The next message, or None after that time."""
        while b'\0' not in self.buffer:
            ready = select.select([self.answers], [], [], max(until - time.monotonic(), 0))[0]
            if not ready:
                return None
            read = os.read(self.answers, 1 << 20)
            if not read:
                raise RuntimeError('chromium has ended')
            self.buffer += read
        message, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(message)

    def call(self, method, session=None, **params):
        self.number += 1
        request = {'id': self.number, 'method': method, 'params': params}
        if session:
            request['sessionId'] = session
        data = json.dumps(request).encode() + b'\0'
        while data:
            data = data[os.write(self.commands, data):]
        until = time.monotonic() + LIMIT
        while True:
            message = self.receive(until)
            if message is None:
                raise RuntimeError(f'no answer to {method}')
            if message.get('id') == self.number:
                if 'error' in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message['result']
            self.events.append(message)

    def wait(self, session, method):
        until = time.monotonic() + LIMIT
        while True:
            for event in self.events:
                if event.get('sessionId') == session and event['method'] == method:
                    return event
            message = self.receive(until)
            if message is None:
                raise RuntimeError(f'no {method}')
            self.events.append(message)

    def page(self, **options):
        return Page(self, **options)


class Page:
    def __init__(self, browser, width=1280, height=900, scheme='light', scale=1):
        self.browser = browser
        target = browser.call('Target.createTarget', url='about:blank')['targetId']
        self.session = browser.call('Target.attachToTarget', targetId=target,
                                    flatten=True)['sessionId']
        for domain in ('Page', 'Network', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')
        self.scale = scale
        self.scheme(scheme)
        self.size(width, height)

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def size(self, width, height=900):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=self.scale, mobile=False)

    def scheme(self, scheme):
        self.call('Emulation.setEmulatedMedia',
                  features=[{'name': 'prefers-color-scheme', 'value': scheme}])

    def open(self, url):
        """Until everything that it asked for has come or failed."""
        self.browser.events = [e for e in self.browser.events
                               if e.get('sessionId') != self.session]
        self.call('Page.navigate', url=url)
        self.browser.wait(self.session, 'Page.loadEventFired')
        # what is reported asynchronously is there once a later script has run
        self.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))')

    def mine(self, method):
        return [e['params'] for e in self.browser.events
                if e.get('sessionId') == self.session and e['method'] == method]

    @property
    def requests(self):
        return [p['request']['url'] for p in self.mine('Network.requestWillBeSent')]

    @property
    def messages(self):
        """What was said in the console, by scripts and by the browser itself."""
        return ([json.dumps([a.get('value') for a in p['args']])
                 for p in self.mine('Runtime.consoleAPICalled')] +
                [p['entry']['text'] for p in self.mine('Log.entryAdded')] +
                [p['exceptionDetails']['text'] for p in self.mine('Runtime.exceptionThrown')])

    def evaluate(self, expression):
        result = self.call('Runtime.evaluate', expression=expression,
                           awaitPromise=True, returnByValue=True)
        if 'exceptionDetails' in result:
            raise RuntimeError(str(result['exceptionDetails']))
        return result['result'].get('value')

    def picture(self, path, clip=None):
        """The whole page, or what is between: its top, its height."""
        top, height = clip or (0, self.evaluate('document.documentElement.scrollHeight'))
        area = {'x': 0, 'y': top, 'width': self.evaluate('window.innerWidth'),
                'height': height, 'scale': 1}
        data = self.call('Page.captureScreenshot', format='png', clip=area,
                         captureBeyondViewport=True)['data']
        with open(path, 'wb') as out:
            out.write(base64.b64decode(data))

    def pdf(self, path):
        with open(path, 'wb') as out:
            out.write(base64.b64decode(self.call('Page.printToPDF', printBackground=False,
                                                 paperWidth=8.27, paperHeight=11.69)['data']))

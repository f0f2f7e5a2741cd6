"""An HTTP server of Python's standard library that writes down each request as it read it.

recorder.py RECORDS ANNOUNCED PORTS
"""

import http.server
import json
import re
import signal
import sys
import threading
import urllib.parse

records_path, announced, ports = sys.argv[1], sys.argv[2], int(sys.argv[3])
records = open(records_path, "w", encoding="utf-8")
lock = threading.Lock()


class Incomplete(Exception):
    """The content did not come whole, or not well framed."""


class Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and content of an answer are written apart.
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        # Any method is fine, except the one that would turn the connection into a tunnel.
        if name.startswith("do_") and name != "do_CONNECT":
            return self.record
        raise AttributeError(name)

    def record(self):
        try:
            length, complete = self.read_content(), True
        except Incomplete:
            length, complete = 0, False
        target = self.requestline.split()[1]
        values = self.headers.items()
        named = lambda wanted: [value for name, value in values if name.lower().replace("_", "-") == wanted]
        self.write_down(
            method=self.command,
            target=target,
            path=urllib.parse.unquote(urllib.parse.urlsplit(self.path).path, errors="replace"),
            host=", ".join(named("host")),
            length=length,
            complete=complete,
            callers=", ".join(named("x-forwarded-client-cert")),
            framings=len(named("content-length") + named("transfer-encoding")),
        )
        if not complete:
            self.close_connection = True
            return
        body = f"{self.command} {target}".encode("latin-1", "replace")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read_content(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self.read_chunks()
        return len(self.read(int(self.headers.get("Content-Length") or 0)))

    def read_chunks(self):
        total = 0
        while True:
            line = self.rfile.readline(65537).split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]+", line):
                raise Incomplete
            size = int(line, 16)
            total += len(self.read(size))
            if size == 0:
                while (line := self.rfile.readline(65537)).strip():
                    pass
                if not line:
                    raise Incomplete
                return total
            self.rfile.readline(65537)

    def read(self, count):
        content = self.rfile.read(count)
        if len(content) < count:
            raise Incomplete
        return content

    def write_down(self, **fields):
        with lock:
            records.write(json.dumps({"port": self.server.server_address[1], **fields}) + "\n")
            records.flush()

    def send_error(self, code, message=None, explain=None):
        # What it could not read as a request.
        self.write_down(method="", target=repr(self.raw_requestline), path="", host="", length=0, complete=False, callers="", framings=0)
        super().send_error(code, message, explain)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    # Whoever is being answered is answered before the end.
    daemon_threads = False
    request_queue_size = 128


servers = [Server(("127.0.0.1", 0), Recorder) for _ in range(ports)]
threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers]
signal.signal(signal.SIGTERM, lambda *_: [threading.Thread(target=server.shutdown).start() for server in servers])
for thread in threads:
    thread.start()
with open(announced, "w", encoding="utf-8") as file:
    json.dump([server.server_address[1] for server in servers], file)
for thread in threads:
    thread.join()
for server in servers:
    server.server_close()

"""A server with Hugging Face's layout on 127.0.0.1, for the tests of `thimble pull`.

usage: hub_server.py FOLDER [CERTIFICATE KEY]
Serves FOLDER/ORG/NAME; prints its port; appends "PATH RANGE" of every request to FOLDER/log. What goes wrong is in the
file FOLDER/ORG/NAME.json: {"drop": {"FILE": BYTES}, "no_ranges": true, "wrong_hash": "FILE", "extra": [sibling ...],
"fail_first": STATUS, "short_size": "FILE", "commit": SHA, "wrong_blob": "FILE", "location": URL, "no_sizes": true,
"endless": "FILE"}; a drop or failure happens once. The log also tells the "Authorization" that came, if any.
"""
import hashlib
import http.server
import json
import os
import ssl
import sys

root = sys.argv[1]
done = set()


def once(*what):
    if what in done:
        return False
    done.add(what)
    return True


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", headers=(), sent=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])
        if sent is not None:
            self.wfile.flush()
            self.close_connection = True

    def listing(self, repo, wrong):
        if "fail_first" in wrong and once(repo, "fail"):
            return self.reply(wrong["fail_first"])
        folder, siblings = os.path.join(root, repo), []
        for name in sorted(os.listdir(folder)):
            data = open(os.path.join(folder, name), "rb").read()
            entry = {"rfilename": name, "size": len(data)}
            if name.endswith((".safetensors", ".gguf")):
                digest = hashlib.sha256(b"other" if wrong.get("wrong_hash") == name else data).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(data)}
            else:
                content = b"other" if wrong.get("wrong_blob") == name else data
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + content).hexdigest()
            if wrong.get("no_sizes"):
                entry = {"rfilename": name}
            if wrong.get("short_size") == name:
                entry = {"rfilename": name, "size": len(data) - 1}
            siblings.append(entry)
        listing = {"id": repo, "sha": "0123456789abcdef" * 2 + "01234567", "siblings": siblings + wrong.get("extra", [])}
        if "commit" in wrong:
            listing["sha"] = wrong["commit"]
        self.reply(200, json.dumps(listing).encode())

    def file(self, repo, name, wrong):
        path = os.path.join(root, repo, name)
        if not os.path.isfile(path):
            return self.reply(404, b"Entry not found")
        if self.path.endswith("?cdn") is False and wrong.get("redirect"):
            return self.reply(302, headers=[("Location", self.path + "?cdn")])
        if "location" in wrong:
            return self.reply(302, headers=[("Location", wrong["location"])])
        if wrong.get("endless") == name:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(bytes(1 << 20))
            except OSError:
                pass
            self.close_connection = True
            return
        data, status, headers = open(path, "rb").read(), 200, []
        asked = self.headers.get("Range")
        if asked and not wrong.get("no_ranges"):
            start = int(asked[len("bytes="):].split("-")[0])
            if start >= len(data):
                return self.reply(416)
            headers = [("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")]
            data, status = data[start:], 206
        drop = wrong.get("drop", {}).get(name)
        self.reply(status, data, headers, drop if drop is not None and once(repo, name, "drop") else None)

    def do_GET(self):
        with open(os.path.join(root, "log"), "a") as log:
            log.write(f"{self.path} {self.headers.get('Range', '-')} {self.headers.get('Authorization', '')}\n")
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        if not os.path.isdir(os.path.join(root, repo)):
            return self.reply(404, b"Repository not found")
        wrong = json.load(open(os.path.join(root, repo + ".json"))) if os.path.exists(os.path.join(root, repo + ".json")) else {}
        if api:
            self.listing(repo, wrong)
        else:
            self.file(repo, "/".join(parts[4:]), wrong)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()

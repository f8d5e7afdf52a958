"""One action with Python's ftplib over TLS; every reply goes to standard error as `*reply* ...`.

    ftplib_peer.py --host H --port P --authority CA.pem --user U --password W --tls 1.2|1.3
                   [--implicit] -- ACTION ARGUMENTS
"""

import argparse
import ftplib
import ssl
import sys


class Client(ftplib.FTP_TLS):
    """ftplib with its replies shown, and with implicit TLS, which it does not have."""

    implicit = False

    def getresp(self):
        try:
            reply = super().getresp()
        except ftplib.Error as error:
            print(f"*reply* {error}", file=sys.stderr)
            raise
        print(f"*reply* {reply}", file=sys.stderr)
        return reply

    def connect(self, host="", port=0, timeout=-999, source_address=None):
        if not self.implicit:
            return super().connect(host, port, timeout, source_address)
        self.host, self.port = host, port
        plain = ftplib.socket.create_connection((host, port), timeout=self.timeout)
        self.af = plain.family
        self.sock = self.context.wrap_socket(plain, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--authority", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--tls", choices=["1.2", "1.3"], required=True)
    parser.add_argument("--implicit", action="store_true")
    parser.add_argument("action", nargs="+")
    options = parser.parse_args()

    context = ssl.create_default_context(cafile=options.authority)
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[options.tls]
    context.minimum_version = context.maximum_version = version
    ftp = Client(context=context, timeout=60)
    ftp.implicit = options.implicit
    ftp.connect(options.host, options.port)
    if options.implicit:
        # login() would ask for AUTH first.
        ftplib.FTP.login(ftp, options.user, options.password)
    else:
        ftp.login(options.user, options.password)
    ftp.prot_p()

    action, *arguments = options.action
    if action == "upload":
        file, name = arguments
        with open(file, "rb") as source:
            ftp.storbinary(f"STOR {name}", source)
    elif action == "download":
        name, file = arguments
        with open(file, "wb") as target:
            ftp.retrbinary(f"RETR {name}", target.write)
    elif action == "names":
        for name, facts in ftp.mlsd(arguments[0], facts=["type"]):
            if facts.get("type") not in ("cdir", "pdir"):
                print(name)
    elif action == "rename":
        ftp.rename(*arguments)
    elif action == "delete":
        ftp.delete(*arguments)
    elif action == "make-directory":
        ftp.mkd(*arguments)
    elif action == "remove-directory":
        ftp.rmd(*arguments)
    else:
        parser.error(f"no action named {action}")
    ftp.quit()


main()

"""Python's ftplib: one session; it never resumes TLS sessions (cpython#63699)."""

import ftplib
import ssl

from _steps import CA, HOST, IN, MODE, OUT, PART, PASSWORD, PORT, TASK, TIME, TLS, UPLOADS, USER, step


class Implicit(ftplib.FTP_TLS):
    """TLS with the first byte, which ftplib does not have: the usual way is to wrap the socket."""

    _sock = None

    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, value):
        if value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname=self.host)
        self._sock = value


def connect():
    global ftp
    context = ssl.create_default_context(cafile=CA)
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[TLS]
    context.minimum_version = context.maximum_version = version
    ftp = (Implicit if MODE == "implicit" else ftplib.FTP_TLS)(context=context, timeout=60)
    ftp.set_debuglevel(1)
    ftp.connect(HOST, PORT)
    ftp.login(USER, PASSWORD, secure=MODE == "explicit")
    ftp.prot_p()


def upload(local, remote, verb="STOR", offset=0, rest=None):
    with open(f"{IN}/{local}", "rb") as source:
        source.seek(offset)
        ftp.storbinary(f"{verb} {remote}", source, rest=rest)


def download(remote, local, mode="wb", rest=None):
    with open(f"{OUT}/{local}", mode) as target:
        ftp.retrbinary(f"RETR {remote}", target.write, rest=rest)


def two():
    upload("medium.bin", "made/one.bin")
    upload("small.bin", "made/two.bin")


def write_names(name, lines):
    with open(f"{OUT}/{name}.txt", "w") as target:
        target.write("\n".join(lines))


def listing():
    lines = []
    ftp.dir("listed", lines.append)
    write_names("list", lines)


def abort():
    data = ftp.transfercmd("RETR large.bin")
    data.recv(65536)
    ftp.abort()
    data.close()
    # 426 came as the answer; the 226 behind it is still to be read.
    ftp.voidresp()
    ftp.pwd()


def again():
    try:
        ftp.close()
    finally:
        connect()


if TASK == "uploads":
    connect()
    for name in UPLOADS:
        upload("medium.bin", name)
    ftp.quit()
else:
    step("login", connect)
    for name, action in {
        "mkdir": lambda: ftp.mkd("made"),
        "small": lambda: upload("small.bin", "made/small.bin"),
        "zero": lambda: upload("zero.bin", "made/zero.bin"),
        "large": lambda: upload("large.bin", "made/large.bin"),
        "two": two,
        "get": lambda: download("large.bin", "large.bin"),
        "list": listing,
        "nlst": lambda: write_names("nlst", ftp.nlst("listed")),
        "mlsd": lambda: write_names("mlsd", [name for name, _ in ftp.mlsd("listed", ["type", "size"])]),
        "resume-get": lambda: download("medium.bin", "medium.bin", "ab", PART),
        "resume-put": lambda: upload("medium.bin", "resume.bin", offset=PART, rest=PART),
        "append": lambda: upload("medium.bin", "append.bin", "APPE", PART),
        "rename": lambda: ftp.rename("rename-me", "made/renamed"),
        "time": lambda: ftp.sendcmd(f"MFMT {TIME} made/small.bin"),
        "delete": lambda: ftp.delete("delete-me"),
        "rmdir": lambda: ftp.rmd("remove-me"),
        "abort": abort,
    }.items():
        step(name, action, again)
    ftp.quit()

"""A current libcurl: one handle, so one control connection as long as nothing fails."""

import os

import pycurl

from _steps import CA, HOST, IN, MODE, OUT, PART, PASSWORD, PORT, TASK, TIME, TLS, UPLOADS, USER, Cannot, step

curl = pycurl.Curl()
BASE = f"{'ftp' if MODE == 'explicit' else 'ftps'}://{HOST}:{PORT}"


def begin(path):
    """Options anew; the connection stays."""
    curl.reset()
    curl.setopt(pycurl.URL, f"{BASE}/{path}")
    curl.setopt(pycurl.USERPWD, f"{USER}:{PASSWORD}")
    curl.setopt(pycurl.CAINFO, CA)
    curl.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
    version = {
        "1.2": pycurl.SSLVERSION_TLSv1_2 | pycurl.SSLVERSION_MAX_TLSv1_2,
        "1.3": pycurl.SSLVERSION_TLSv1_3 | pycurl.SSLVERSION_MAX_TLSv1_3,
    }[TLS]
    curl.setopt(pycurl.SSLVERSION, version)
    curl.setopt(pycurl.TIMEOUT, 90)
    curl.setopt(pycurl.VERBOSE, True)


def upload(local, remote, **options):
    begin(remote)
    with open(f"{IN}/{local}", "rb") as source:
        curl.setopt(pycurl.UPLOAD, True)
        curl.setopt(pycurl.READDATA, source)
        # To resume, libcurl must know the size and be able to seek.
        curl.setopt(pycurl.INFILESIZE_LARGE, os.path.getsize(f"{IN}/{local}"))
        curl.setopt(pycurl.SEEKFUNCTION, lambda offset, origin: source.seek(offset, origin) and 0)
        for name, value in options.items():
            curl.setopt(getattr(pycurl, name), value)
        curl.perform()


def download(remote, local, mode="wb", **options):
    begin(remote)
    with open(f"{OUT}/{local}", mode) as target:
        curl.setopt(pycurl.WRITEDATA, target)
        for name, value in options.items():
            curl.setopt(getattr(pycurl, name), value)
        curl.perform()


def quote(*lines):
    begin("")
    curl.setopt(pycurl.QUOTE, list(lines))
    curl.setopt(pycurl.NOBODY, True)
    curl.perform()


def two():
    upload("medium.bin", "made/one.bin")
    upload("small.bin", "made/two.bin")


def resume_put():
    raise Cannot("libcurl resumes uploads with SIZE and APPE")


def abort():
    download("large.bin", "cut.bin", RANGE="0-99999")
    quote("PWD")


if TASK == "uploads":
    for name in UPLOADS:
        upload("medium.bin", name)
else:
    for name, action in {
        "login": lambda: quote("PWD"),
        "mkdir": lambda: quote("MKD made"),
        "small": lambda: upload("small.bin", "made/small.bin"),
        "zero": lambda: upload("zero.bin", "made/zero.bin"),
        "large": lambda: upload("large.bin", "made/large.bin"),
        "two": two,
        "get": lambda: download("large.bin", "large.bin"),
        "list": lambda: download("listed/", "list.txt"),
        "nlst": lambda: download("listed/", "nlst.txt", DIRLISTONLY=True),
        "mlsd": lambda: download("listed/", "mlsd.txt", CUSTOMREQUEST="MLSD"),
        "resume-get": lambda: download("medium.bin", "medium.bin", "ab", RESUME_FROM=PART),
        "resume-put": resume_put,
        "append": lambda: upload("medium.bin", "append.bin", RESUME_FROM=-1),
        "rename": lambda: quote("RNFR rename-me", "RNTO made/renamed"),
        "time": lambda: quote(f"MFMT {TIME} made/small.bin"),
        "delete": lambda: quote("DELE delete-me"),
        "rmdir": lambda: quote("RMD remove-me"),
        "abort": abort,
    }.items():
        step(name, action)
curl.close()

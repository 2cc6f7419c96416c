# Names the first missing prerequisite and how to get it, in one line. Argument: the Python found.

need() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "tickwire needs $2, which is not installed: on Debian or Ubuntu 'apt install $3'," \
        "on Fedora 'dnf install $4'" >&2
    exit 2
}

if [ -z "$1" ]; then
    echo "tickwire needs Python 3.11 or later, which is not on PATH:" \
        "install it from your distribution, or say 'make PYTHON=/path/to/python3'" >&2
    exit 2
fi
if ! command -v "$1" >/dev/null 2>&1 || ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
then
    echo "tickwire needs Python 3.11 or later, and $1 is not:" \
        "install one from your distribution, or say 'make PYTHON=/path/to/python3'" >&2
    exit 2
fi
if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "tickwire needs Python's venv module, which is not installed: on Debian or Ubuntu" \
        "'apt install python3-venv'" >&2
    exit 2
fi
need g++ "a C++ compiler (g++)" g++ gcc-c++
need perl perl perl perl

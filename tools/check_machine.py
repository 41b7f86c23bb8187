"""Say in one line what this machine lacks for building and running; written for any Python 3."""

import os
import shutil
import sys
import sysconfig


def main():
    """Return what is missing, or nothing."""
    if sys.version_info < (3, 10):
        return "Python >= 3.10 is needed, %s is %s; name another: make PYTHON=python3.11" % (
            sys.executable,
            sys.version.split()[0],
        )
    compiler = os.environ.get("CXX", "g++").split()[0]
    if shutil.which(compiler) is None:
        return "no C++ compiler: %s is not found; apt install g++, or name another in CXX" % compiler
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return "no Python headers: %s is missing; apt install python3-dev" % header
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "Python has no venv module; apt install python3-venv"
    return None


if __name__ == "__main__":
    problem = main()
    sys.exit("error: " + problem if problem else 0)

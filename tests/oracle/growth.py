# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Whether processes come to have more than they had, for the soak."""

import os
import time

from guest import Wrong

PATIENCE = float(os.environ.get("NBDFLEECE_PATIENCE", 20)) # seconds

MORE_KIB = 32768                # than at first: buffers of 16 threads and more
# A sanitizer keeps for itself what is freed.
SANITIZED = os.environ.get("NBDFLEECE_SANITIZER", "no") != "no"
GUESTS = 8                      # descriptors of clients that come and go


class Growth:
    """Descriptors of a process are compared between moments at which there is
    as much for it to have open: snapshots and checkpoints."""

    def __init__(self, host):
        self.host, self.open, self.kib, self.looks = host, {}, {}, 0

    def processes(self):
        found = {"daemon": self.host.daemon.pid}
        for f in os.listdir(self.host.run):
            if f.endswith(".pid") and not f.startswith("job-"):
                with open(f"{self.host.run}/{f}") as text:
                    found[f[:-4]] = int(text.read())
        return found

    def files(self):
        """How many bitmaps there are."""
        return sum(f.endswith((".map", ".dirty"))
                   for _, _, files in os.walk(self.host.state) for f in files)

    @staticmethod
    def resident(pid):
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
        return 0

    def look_at(self, name, pid):
        """None: all is well; or what is wrong, perhaps only just now."""
        files = self.files()
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        if self.files() != files:
            return f"{name}: files come and go"
        slack = GUESTS if name.startswith("vd") else 0
        first = self.open.setdefault((pid, files), fds)
        if fds > first + slack:
            return f"{name} has {fds} descriptors, and had {first}"
        kib = self.resident(pid)
        before = self.kib.setdefault(pid, kib)
        if kib > before + MORE_KIB and not SANITIZED:
            return f"{name} has {kib} KiB, and had {before}"
        return None

    def look(self):
        """When nothing is under way."""
        end = time.monotonic() + PATIENCE
        for name, pid in self.processes().items():
            while True:
                try:
                    wrong = self.look_at(name, pid)
                except (FileNotFoundError, ProcessLookupError):
                    break       # it has ended, and another is there
                if not wrong:
                    break
                if time.monotonic() > end:
                    raise Wrong(wrong)
                time.sleep(0.05)
            self.looks += 1

    def account(self):
        return (f"growth: {self.looks} looks at {len(self.kib)} processes, "
                "none has grown")

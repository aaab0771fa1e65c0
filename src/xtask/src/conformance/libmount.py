"""What crun's tests use of util-linux's module of this name, for a Debian that has no package of it."""


class _Entry:
    def __init__(self, line):
        front, back = line.split(" - ", 1)
        fields = front.split()
        self.target = fields[4]
        self.vfs_options = fields[5]
        self.fs_options = back.split()[2]


class Table:
    """The lines of a mountinfo file."""

    def __init__(self, path):
        with open(path) as lines:
            self._entries = [_Entry(line) for line in lines if " - " in line]

    def find_target(self, target):
        """The last mount on this path: it covers the others."""
        found = [entry for entry in self._entries if entry.target == target]
        return found[-1] if found else None

# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files, by which a number or an export names what it was made of."""

import hashlib


def digest_file(path: str) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()

"""The tables of a gallery file, schema 2, and what makes them of schema 1: text alone, which `store` runs.

A row is what the index holds: one code under one id. An image has one row or more, its whole and perhaps parts; the
whole has the id of its image. Ids are never given again. Every checksum is a CRC-32 of the bytes beside it,
begun from the id of its row or image, so that bytes that come under another id are noticed too.

Tables and columns that nothing fills yet are there because a gallery's file should change once: `names`, `verdicts`; of
`images` what recognises a file again; of `folders` what recognises a folder.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "FROM_1", "SCHEMA", "TABLES"]

APPLICATION_ID = 0x70796861
"""``pyha``: how SQLite marks whose file this is."""
SCHEMA = 2
"""In SQLite's ``user_version``; schema 1 had 0 there."""

TABLES = (
    # revision: counts the transactions that changed the file. changes_from: the revision from which on `changes` tells
    # all. head: whose codes are searched. opened: how its encoder was opened, JSON. version: of the pyhash that wrote
    # last. seal: see `seal`. forgotten, traces: see `forgotten`.
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # What pyhash looks at that knows schema 1 only; it then says that it cannot read schema 2.
    "CREATE VIEW meta AS SELECT 'schema' AS key, '2' AS value",
    "CREATE TABLE folders (id INTEGER PRIMARY KEY, mark TEXT UNIQUE, device TEXT, path BLOB)",
    # A path is inside its folder, with forward slashes. Neither an error nor a code: the image waits to be encoded.
    # Digest, inode, times and reader (what read or refused it) are for telling what changed. inode: as 64 bits, signed.
    "CREATE TABLE images (id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "folder INTEGER NOT NULL REFERENCES folders ON DELETE CASCADE, path BLOB NOT NULL, "
    "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER, inode INTEGER, digest BLOB, "
    "error TEXT, reader TEXT, checksum INTEGER NOT NULL, UNIQUE (folder, path))",
    "CREATE INDEX images_by_digest ON images (digest) WHERE digest IS NOT NULL",
    "CREATE INDEX images_by_inode ON images (inode) WHERE inode IS NOT NULL",
    # Other names of the same file: links.
    "CREATE TABLE names (folder INTEGER NOT NULL REFERENCES folders ON DELETE CASCADE, path BLOB NOT NULL, "
    "image INTEGER NOT NULL REFERENCES images ON DELETE CASCADE, PRIMARY KEY (folder, path)) WITHOUT ROWID",
    "CREATE INDEX names_by_image ON names (image)",
    # What the user does not want to see again.
    "CREATE TABLE forgotten (folder INTEGER NOT NULL REFERENCES folders ON DELETE CASCADE, path BLOB NOT NULL, "
    "PRIMARY KEY (folder, path)) WITHOUT ROWID",
    # What makes embeddings, how files become its pixels (decoder), and what people call it.
    "CREATE TABLE networks (id INTEGER PRIMARY KEY, name TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE, "
    "decoder TEXT)",
    # What makes codes of embeddings. levels: JSON. No matrix: it is inside the network's file.
    "CREATE TABLE heads (id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "network INTEGER NOT NULL REFERENCES networks ON DELETE CASCADE, levels TEXT NOT NULL, "
    "matrix BLOB, checksum INTEGER, fitted_on INTEGER)",
    # part: whole, or which kind of part; box: where it lies in the image; name: what it is called. See `part_tables`.
    "CREATE TABLE rows (id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "image INTEGER NOT NULL REFERENCES images ON DELETE CASCADE, part TEXT NOT NULL DEFAULT 'whole', "
    "box TEXT, name TEXT)",
    "CREATE INDEX rows_by_image ON rows (image)",
    "CREATE TABLE codes (row INTEGER NOT NULL REFERENCES rows ON DELETE CASCADE, "
    "head INTEGER NOT NULL REFERENCES heads ON DELETE CASCADE, code BLOB NOT NULL, checksum INTEGER NOT NULL, "
    "PRIMARY KEY (row, head)) WITHOUT ROWID",
    # vector: int8, to be multiplied by the norm. Too long for WITHOUT ROWID.
    "CREATE TABLE embeddings (id INTEGER PRIMARY KEY, row INTEGER NOT NULL REFERENCES rows ON DELETE CASCADE, "
    "network INTEGER NOT NULL REFERENCES networks ON DELETE CASCADE, vector BLOB NOT NULL, norm REAL NOT NULL, "
    "checksum INTEGER NOT NULL, UNIQUE (row, network))",
    "CREATE TABLE neighbours (row INTEGER PRIMARY KEY REFERENCES rows ON DELETE CASCADE, "
    "ids BLOB NOT NULL, weights BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE TABLE looks (image INTEGER PRIMARY KEY REFERENCES images ON DELETE CASCADE, "
    "blocks BLOB NOT NULL, grey BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE TABLE thumbnails (image INTEGER PRIMARY KEY REFERENCES images ON DELETE CASCADE, "
    "thumbnail BLOB NOT NULL, checksum INTEGER NOT NULL)",
    # What the user said of two images: that they are no duplicates.
    "CREATE TABLE verdicts (one INTEGER NOT NULL REFERENCES images ON DELETE CASCADE, "
    "other INTEGER NOT NULL REFERENCES images ON DELETE CASCADE, verdict TEXT NOT NULL, "
    "PRIMARY KEY (one, other), CHECK (one < other)) WITHOUT ROWID",
    "CREATE INDEX verdicts_by_other ON verdicts (other)",
    # The rows whose code or path came, changed or went in each of the last revisions: who has an older revision loads
    # these only.
    "CREATE TABLE changes (revision INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (revision, row)) WITHOUT ROWID",
    "INSERT INTO settings VALUES ('revision', 0), ('changes_from', 0)",
    "INSERT INTO folders (id) VALUES (1)",
)

FROM_1 = (
    "ALTER TABLE meta RENAME TO meta_1",
    "ALTER TABLE pictures RENAME TO pictures_1",
    *TABLES,
    "UPDATE settings SET value = (SELECT value + 1 FROM meta_1 WHERE key = 'revision')",
    "INSERT INTO networks (id, name, fingerprint) "
    "SELECT 1, coalesce((SELECT value FROM meta_1 WHERE key = 'encoder'), ''), value "
    "FROM meta_1 WHERE key = 'fingerprint'",
    "INSERT INTO heads (id, network, levels) "
    "SELECT 1, 1, coalesce((SELECT value FROM meta_1 WHERE key = 'levels'), '') FROM networks",
    "INSERT INTO settings SELECT 'head', id FROM heads",
    "INSERT INTO images (id, folder, path, size, mtime_ns, error, checksum) "
    "SELECT id, 1, path, size, mtime_ns, error, checksum(id, path) FROM pictures_1 ORDER BY id",
    "INSERT INTO rows (id, image) SELECT id, id FROM images ORDER BY id",
    "INSERT INTO codes SELECT id, 1, code, checksum(id, code) FROM pictures_1 WHERE code IS NOT NULL ORDER BY id",
    "DELETE FROM sqlite_sequence WHERE name IN ('images', 'rows')",
    "INSERT INTO sqlite_sequence SELECT column1, seq FROM sqlite_sequence, (VALUES ('images'), ('rows')) "
    "WHERE name = 'pictures_1'",
    "DROP TABLE pictures_1",
    "DROP TABLE meta_1",
)
"""What makes schema 2 of schema 1, in one transaction; `checksum` is a function of the connection."""

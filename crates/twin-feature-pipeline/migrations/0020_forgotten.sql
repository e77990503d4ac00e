-- Documents that the author wants forgotten. They are not taken in again, wherever they are found. No text, no title.
CREATE TABLE forgotten (
    document     TEXT PRIMARY KEY NOT NULL,
    author       TEXT NOT NULL,
    url          TEXT NOT NULL,
    forgotten_at TEXT NOT NULL
) STRICT;

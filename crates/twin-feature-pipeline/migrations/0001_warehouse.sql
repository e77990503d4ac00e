-- The document warehouse. It is the truth; the feature store is derived from it.
-- Times are RFC 3339 in UTC. Lists and hints are JSON.

CREATE TABLE sources (
    id         INTEGER PRIMARY KEY,
    author     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    location   TEXT NOT NULL,
    first_seen TEXT NOT NULL,
    last_seen  TEXT NOT NULL,
    UNIQUE (author, kind, location)
) STRICT;

-- What a server last answered, for conditional requests (RFC 9110, section 13).
CREATE TABLE responses (
    source        INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    url           TEXT NOT NULL,
    final_url     TEXT NOT NULL,
    status        INTEGER NOT NULL,
    content_type  TEXT,
    etag          TEXT,
    last_modified TEXT,
    fetched_at    TEXT NOT NULL,
    body          BLOB NOT NULL,
    PRIMARY KEY (source, url)
) STRICT;

-- Pages as their sources gave them, with what cleaning made of each by itself: a document, or the reason why not.
CREATE TABLE pages (
    source     INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    key        TEXT NOT NULL,
    url        TEXT NOT NULL,
    media      TEXT NOT NULL,
    body       TEXT NOT NULL,
    hints      TEXT NOT NULL,
    digest     TEXT NOT NULL,
    first_seen TEXT NOT NULL,
    last_seen  TEXT NOT NULL,
    cleaner    TEXT,
    document   TEXT,
    rejection  TEXT,
    PRIMARY KEY (source, key)
) STRICT;

CREATE TABLE documents (
    id           TEXT PRIMARY KEY,
    author       TEXT NOT NULL,
    source       INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    page         TEXT NOT NULL,
    url          TEXT NOT NULL,
    title        TEXT NOT NULL,
    date         TEXT,
    tags         TEXT NOT NULL,
    language     TEXT,
    text         TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    first_seen   TEXT NOT NULL,
    last_seen    TEXT NOT NULL
) STRICT;

CREATE INDEX documents_by_author ON documents (author, date, url);

-- A row is written only after the feature store has the document's chunks durably.
CREATE TABLE indexed (
    document     TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    view         TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    chunks       INTEGER NOT NULL,
    indexed_at   TEXT NOT NULL,
    PRIMARY KEY (document, view)
) STRICT;

-- What the last run over a source did not take, and why.
CREATE TABLE skips (
    source  INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    what    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (source, what)
) STRICT;

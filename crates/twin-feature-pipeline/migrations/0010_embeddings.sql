-- Vectors by the embedder's weights and the text that was embedded, so that nothing is embedded twice: not for another view,
-- not after a small edit, not when the index is lost. Little-endian 32-bit floats.
CREATE TABLE embeddings (
    document     TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    embedder     TEXT NOT NULL,
    text         TEXT NOT NULL,
    -- The content of the document for which the vector was last wanted.
    content_hash TEXT NOT NULL,
    vector       BLOB NOT NULL,
    PRIMARY KEY (document, embedder, text)
) STRICT;

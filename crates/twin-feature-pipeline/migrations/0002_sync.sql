-- Sources are kept current: whether the last run over one ended, whether it is paused, whose posts are taken from it.
ALTER TABLE sources ADD COLUMN run_begun TEXT;
ALTER TABLE sources ADD COLUMN run_ended TEXT;
ALTER TABLE sources ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN only_by TEXT;

-- A tombstone: since when the source does not have the document any more. It is out of the index and of training.
ALTER TABLE documents ADD COLUMN gone_since TEXT;

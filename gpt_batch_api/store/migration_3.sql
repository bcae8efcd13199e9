-- From schema 3 to 4: since when the server's lists may be expected to show what a push has made. Never changed again: stores
-- may stand between any two versions.

ALTER TABLE push ADD COLUMN over_at REAL;
UPDATE push SET over_at = create_at WHERE state = 'created';

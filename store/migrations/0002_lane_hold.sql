-- What fails for one effect of a lane because of the other side fails for all of
-- them: until hold nothing of the lane is claimed, and reason says why.
ALTER TABLE lanes ADD COLUMN hold INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lanes ADD COLUMN reason TEXT NOT NULL DEFAULT '';

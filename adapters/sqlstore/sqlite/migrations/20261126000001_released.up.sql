-- When an uplink was let out of quarantine: who rules it is asked for that moment. 0: it never was in, or is still there.
ALTER TABLE uplinks ADD COLUMN released INTEGER NOT NULL DEFAULT 0;

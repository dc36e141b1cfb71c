-- A person's open links are found to be voided with what they would undo.
CREATE INDEX links_owner ON links (tenant, owner);

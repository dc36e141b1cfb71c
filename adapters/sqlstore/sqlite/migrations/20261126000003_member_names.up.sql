UPDATE members SET label = json_extract(CAST(body AS TEXT), '$.Name'); -- members are looked for by name
--bun:split
CREATE INDEX members_label ON members (tenant, label);

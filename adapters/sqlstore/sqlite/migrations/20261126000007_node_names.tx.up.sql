UPDATE nodes SET label = json_extract(CAST(body AS TEXT), '$.Name'); -- nodes are looked for by name
--bun:split
CREATE INDEX nodes_label ON nodes (tenant, label);

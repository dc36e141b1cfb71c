-- oldest program: 20261126000001
-- What is many is kept in partitions, one a day of UTC: what has outlived its time is dropped with its day, in no time and leaving
-- nothing to clean up. A policy on the parent does not guard a partition that is named directly, so each has the same, forced,
-- and no service has a right on it; the backup, which names them all, reads.
CREATE FUNCTION partitions(OUT parent text, OUT name text, OUT starts timestamptz, OUT ends timestamptz) RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.relname::text, c.relname::text, e.at[1], e.at[2]
  FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid,
    LATERAL (SELECT array_agg(to_timestamp(CASE WHEN starts_with(v, '\x') THEN ('x' || lpad(substr(v, 3), 16, '0'))::bit(64)::bigint / 1000 ELSE v::bigint / 1000000 END) ORDER BY n)
      FROM unnest(regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)')) WITH ORDINALITY AS b(v, n)) e(at)
  WHERE p.relnamespace = 'public'::regnamespace AND p.relkind = 'p' AND c.relkind = 'r'
$$;
--bun:split
-- add_partition makes the partition of a day, as the owner, unless it is there. It is made apart and attached then, which keeps
-- neither readers nor writers waiting. What is cut by time has its microseconds for bounds; what is cut by id has the
-- milliseconds that ids of that time begin with (core/ident).
CREATE FUNCTION add_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ DECLARE
  child text := parent || '_' || to_char(day, 'YYYYMMDD');
  seconds bigint := extract(epoch FROM day);
  bounds text[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ringfence partitions', 0));
  IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = child) THEN
    RETURN false;
  END IF;
  SELECT CASE a.atttypid WHEN 'bytea'::regtype THEN ARRAY['\x' || lpad(to_hex(seconds * 1000), 12, '0'), '\x' || lpad(to_hex((seconds + 86400) * 1000), 12, '0')]
    ELSE ARRAY[(seconds * 1000000)::text, ((seconds + 86400) * 1000000)::text] END INTO STRICT bounds
    FROM pg_partitioned_table t JOIN pg_class c ON c.oid = t.partrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = t.partattrs[0]
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname = parent;
  EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)', child, parent);
  EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', child);
  EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', child);
  EXECUTE format($p$CREATE POLICY tenant ON public.%I USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')))$p$, child);
  EXECUTE format('GRANT SELECT ON public.%I TO ringfence_backup', child);
  EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', parent, child, bounds[1], bounds[2]);
  RETURN true;
END $$;
--bun:split
-- expire_partition drops a table's oldest partition if all of it is of before a time, and answers its name. It is all that the
-- retention role may do, with its owner's rights, and therefore trusts nobody who calls it: only these tables, only whole
-- partitions, nothing younger than 30 days, by the database's own clock. It gives way after a second to what is under way.
CREATE FUNCTION expire_partition(which text, older timestamptz) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$ DECLARE
  oldest record;
BEGIN
  IF which IS NULL OR which NOT IN ('readings', 'uplinks', 'outcomes') THEN
    RAISE EXCEPTION 'this table is not kept by the day';
  END IF;
  IF older IS NULL OR older > now() - interval '30 days' THEN
    RAISE EXCEPTION 'what is younger than 30 days is not dropped';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('ringfence partitions', 0));
  SELECT p.name, p.starts, p.ends INTO oldest FROM public.partitions() p WHERE p.parent = which ORDER BY p.ends LIMIT 1;
  IF oldest.ends IS NULL OR oldest.ends > older THEN
    RETURN NULL;
  END IF;
  EXECUTE format('DROP TABLE public.%I', oldest.name);
  IF which = 'uplinks' THEN -- what is gone is not waited for
    DELETE FROM public.due WHERE id >= decode(lpad(to_hex(extract(epoch FROM oldest.starts)::bigint * 1000), 12, '0'), 'hex') AND id < decode(lpad(to_hex(extract(epoch FROM oldest.ends)::bigint * 1000), 12, '0'), 'hex');
  END IF;
  RETURN oldest.name;
END $$;
REVOKE EXECUTE ON FUNCTION partitions(), add_partition(text, date), expire_partition(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partitions() TO ringfence_runtime, ringfence_retention, ringfence_backup;
GRANT EXECUTE ON FUNCTION expire_partition(text, timestamptz) TO ringfence_retention;
--bun:split
-- What is there moves. The owner is bound by the policies too, so the old table's is lifted for it, and the new one's comes after;
-- nobody else sees either before this is committed. An id alone cannot be unique across partitions; it is 80 bits of chance.
ALTER TABLE readings RENAME TO readings_before;
ALTER TABLE readings_before NO FORCE ROW LEVEL SECURITY;
ALTER TABLE readings_before DROP CONSTRAINT readings_pkey;
DROP INDEX readings_id, readings_node;
CREATE TABLE readings (LIKE readings_before, PRIMARY KEY (tenant, device, at, id)) PARTITION BY RANGE (at);
CREATE INDEX readings_id ON readings (tenant, id);
CREATE INDEX readings_node ON readings (tenant, node, at, id);
SELECT add_partition('readings', day) FROM (SELECT DISTINCT (to_timestamp(at / 1000000) AT TIME ZONE 'UTC')::date AS day FROM readings_before) d ORDER BY day;
INSERT INTO readings SELECT * FROM readings_before;
DROP TABLE readings_before;
ALTER TABLE readings ENABLE ROW LEVEL SECURITY;
ALTER TABLE readings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON readings USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON readings TO ringfence_runtime;
GRANT SELECT ON readings TO ringfence_backup;

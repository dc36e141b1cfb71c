package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringfence/ringfence/ports/store"
)

// The statements of batches. In all of them $1 is the tenant, said as ? so that the guard of sqlstore finds it, and columns of
// rows are arrays: for up to thousands of rows that is as fast as COPY, which does not ask what is there already.

// settings are of the transaction. A plan for any number of rows is made once a connection: planning takes longer than a small
// part. It finds rows by their keys, and what a part brings along by hashing.
const settings = "SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_nestloop', 'off', true), set_config('enable_seqscan', 'off', true)"

// showFree says whose the rows are that are written from there on, and answers it; if that tenant is being changed: nobody's.
const showFree = "SELECT set_config('app.tenant', CASE WHEN pg_try_advisory_xact_lock_shared(hashtextextended(?, 2)) THEN ? ELSE '' END, true)"

// showShared says it too, and waits for changes of that tenant.
const showShared = "SELECT pg_advisory_xact_lock_shared(hashtextextended(set_config('app.tenant', ?, true), 2))"

// sooner is the statement, with its arguments as they are written there, that notes when a key is over, if nothing is due for jobs
// before. Counters are noticed by a trigger; keys are too many for one, and mostly later than what is due anyway.
func sooner(moment, tenant string) string {
	return "UPDATE known SET due = " + moment + " WHERE tenant = " + tenant + " AND due + 0 > " + moment // not by the index of all that is due
}

// Columns of a part's rows, with their types.
const (
	seenTypes    = "bnbnbnbntt" // sources, keys, devices, decoders: id and revision; addresses
	uplinkNames  = "id, source, device, node, state, reason, address_kind, address, application, session, fport, fcnt, has_fcnt, payload, dedupe, payload_hash, arrived, network, received, attempts, not_before, released, updated"
	uplinkTypes  = "bbbbttttttnnfbbbnnnnnnn"
	outcomeNames = "id, uplink, device, node, decoder, version, hash, engine, category, fuel, duration, message, at"
	outcomeTypes = "bbbbbbbttnntn"
	readingNames = "device, at, id, uplink, node, decoder, version, fcnt, has_fcnt, session, data, warnings"
	readingTypes = "bnbbbbbnftbb"
	outTypes     = "nbntb" // place, event, shard, key, value
	latestTypes  = "bnnbb" // device, at, fcnt, uplink, id
	livelyTypes  = "bn"    // device, at
	foldNames    = "kind, key, node, bucket, until, count"
	foldTypes    = "ttbnnn"
)

// columns are those of a part's statement, with what stands before an uplink's: keys and ids of a plain part, else the row's place.
func columns(plain bool) []string {
	if plain {
		return []string{seenTypes, "b", uplinkTypes, outcomeTypes, readingTypes, outTypes, latestTypes, livelyTypes}
	}
	return []string{seenTypes, "n", uplinkTypes, outcomeTypes, readingTypes, outTypes}
}

// places are the numbers of the first argument of each of some columns, behind the single ones.
func places(first int, columns []string) []int {
	out := make([]int, len(columns))
	for i, types := range columns {
		out[i] = first
		first += len(types)
	}
	return out
}

// What a part's statement answers of a row.
const (
	isStale     = iota // of no row: nothing was written, or it is nobody's
	isDuplicate        // of the first, which it names
	isLater            // its key is free by now, but was taken by a row before it: it is to be tried again
	isHeld             // written, to quarantine
	isSooner           // of no row: the first of its keys is over before anything is due for jobs, and that is to be noted
	isKnown            // of no row: nothing was written, since one of its keys is taken
)

// unnested are arrays as rows, from an argument on.
func unnested(first int, types string) string {
	args := make([]string, len(types))
	for i, letter := range types {
		args[i] = "$" + strconv.Itoa(first+i) + map[rune]string{'b': "::bytea[]", 't': "::text[]", 'n': "::bigint[]", 'f': "::boolean[]"}[letter]
	}
	return "unnest(" + strings.Join(args, ", ") + ")"
}

// differ is a condition: a record of a table has another revision than the one that was seen.
func differ(table string, first int) string {
	return fmt.Sprintf("EXISTS (SELECT FROM %s AS x (id, rev) WHERE x.rev <> coalesce((SELECT t.rev FROM %s t WHERE t.tenant = ? AND t.id = x.id), 0))", unnested(first, "bn"), table)
}

// freshCondition says that a part is somebody's and not stale.
func freshCondition(seen int) string {
	return `coalesce((SELECT h.revision FROM audit_heads h WHERE h.tenant = ?), 0) = $2 AND current_setting('app.tenant') <> ''
			AND NOT ` + differ("sources", seen) + ` AND NOT ` + differ("source_keys", seen+2) + ` AND NOT ` + differ("devices", seen+4) + ` AND NOT ` + differ("decoders", seen+6) + `
			AND NOT EXISTS (SELECT FROM ` + unnested(seen+8, "tt") + ` AS x (kind, value) WHERE (SELECT true FROM device_addresses a WHERE a.tenant = ? AND a.kind = x.kind AND a.value = x.value))`
}

// plainStatement writes a part of which no key is taken, as nearly all are, for a fifth less than partStatement does: nothing in
// it depends on what becomes of a row. Who is faster by a moment has the key, and the slower one's statement fails. Arguments:
// tenant, revision, when the first key is over, what was seen, keys and ids, uplinks, outcomes, readings, what goes out, each
// device's latest reading and sign of life.
func plainStatement() string {
	at := places(4, columns(true))
	seen, keys, uplinks, outcomes, readings, outs, newest, lively := at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]
	column := func(name string) string {
		n := slices.Index(strings.Split(uplinkNames, ", "), name)
		return fmt.Sprintf("$%d", uplinks+n)
	}
	const so = ` WHERE (SELECT fresh AND free FROM same)`
	return `WITH same AS MATERIALIZED (SELECT ` + freshCondition(seen) + ` AS fresh, NOT EXISTS (SELECT FROM ` + unnested(keys, "b") + ` AS x (key) WHERE (SELECT true FROM dedupe k WHERE k.tenant = ? AND k.key = x.key)) AS free),
		keys AS (INSERT INTO dedupe (tenant, key, uplink, payload_hash, expires) SELECT ?::bytea, key, id, hash, arrived + ` + strconv.FormatInt(store.DedupeWindow.Microseconds(), 10) + `
			FROM unnest(` + column("dedupe") + `::bytea[], ` + column("id") + `::bytea[], ` + column("payload_hash") + `::bytea[], ` + column("arrived") + `::bigint[]) AS x (key, id, hash, arrived)` + so + fmt.Sprintf(` AND key <> '\x%064d' ORDER BY key),`, 0) + `
		kept AS (INSERT INTO uplinks (tenant, rev, ` + uplinkNames + `) SELECT ?::bytea, 1, x.* FROM ` + unnested(uplinks, uplinkTypes) + ` AS x` + so + `),
		told AS (INSERT INTO outcomes (tenant, ` + outcomeNames + `) SELECT ?::bytea, x.* FROM ` + unnested(outcomes, outcomeTypes) + ` AS x` + so + `),
		made AS (INSERT INTO readings (tenant, ` + readingNames + `) SELECT ?::bytea, x.* FROM ` + unnested(readings, readingTypes) + ` AS x` + so + `),
		sent AS (INSERT INTO outbox (tenant, event, shard, key, value) SELECT ?::bytea, event, shard, key, value FROM ` + unnested(outs, outTypes) + ` AS x (place, event, shard, key, value)` + so + ` ORDER BY place),
		newest AS (INSERT INTO latest (tenant, device, at, fcnt, uplink, id) SELECT ?::bytea, x.* FROM ` + unnested(newest, latestTypes) + ` AS x` + so + `
			` + isLatest + `),
		lively AS (INSERT INTO seen (tenant, device, at) SELECT ?::bytea, x.* FROM ` + unnested(lively, livelyTypes) + ` AS x` + so + `
			` + isLively + `)
		SELECT CASE WHEN NOT fresh THEN ` + strconv.Itoa(isStale) + ` WHEN NOT free THEN ` + strconv.Itoa(isKnown) + ` ELSE ` + strconv.Itoa(isSooner) + ` END::bigint FROM same
			WHERE NOT (fresh AND free) OR (SELECT due FROM known WHERE known.tenant = $1) > $3`
}

// What is there is not turned back.
const (
	isLatest = "ON CONFLICT (tenant, device) DO UPDATE SET at = excluded.at, fcnt = excluded.fcnt, uplink = excluded.uplink, id = excluded.id WHERE (excluded.at, excluded.fcnt, excluded.uplink) > (latest.at, latest.fcnt, latest.uplink)"
	isLively = "ON CONFLICT (tenant, device) DO UPDATE SET at = excluded.at WHERE excluded.at > seen.at"
)

// partStatement writes a part, if it is not stale. Arguments: tenant, revision, what was seen, places, uplinks, outcomes,
// readings, what goes out.
//
// A duplicate that came before is left out (came). A key is taken by the first row that has it, or its holder is told: locking
// the row that is there shows who has it, whoever was faster (keys). So it is known what becomes of each row (fates). An uplink
// that is there already is met as it is written, and nothing of its row follows (kept): no plan looks into all the days' parts.
func partStatement() string {
	at := places(3, columns(false))
	seen, place, outcomes, readings, outs := at[0], at[1], at[3], at[4], at[5]
	const free = "dedupe.expires <= excluded.expires - %[1]d"
	keys := fmt.Sprintf(`INSERT INTO dedupe (tenant, key, uplink, payload_hash, expires) SELECT DISTINCT ON (dedupe) ?::bytea, dedupe, id, payload_hash, arrived + %[1]d FROM came WHERE dedupe <> '\x%064[2]d' ORDER BY dedupe, place
		ON CONFLICT (tenant, key) DO UPDATE SET uplink = CASE WHEN `+free+` THEN excluded.uplink ELSE dedupe.uplink END, payload_hash = CASE WHEN `+free+` THEN excluded.payload_hash ELSE dedupe.payload_hash END,
			expires = CASE WHEN `+free+` THEN excluded.expires ELSE dedupe.expires END RETURNING key, uplink AS holder, payload_hash AS hash, expires`, store.DedupeWindow.Microseconds(), 0)
	return `WITH same AS MATERIALIZED (SELECT ` + freshCondition(seen) + ` AS so),
		came AS MATERIALIZED (SELECT * FROM ` + unnested(place, "n"+uplinkTypes) + ` AS x (place, ` + uplinkNames + `) WHERE (SELECT so FROM same)
			AND (SELECT true FROM dedupe k WHERE k.tenant = ? AND k.key = x.id) IS NULL),
		keys AS (` + keys + `),
		fates AS MATERIALIZED (SELECT came.*, holder, CASE WHEN holder IS NULL OR holder = id THEN 0 WHEN expires <= arrived THEN ` + strconv.Itoa(isLater) + ` WHEN hash = payload_hash THEN ` + strconv.Itoa(isDuplicate) + ` ELSE -1 END AS fate FROM came LEFT JOIN keys ON key = dedupe),
		kept AS (INSERT INTO uplinks (tenant, rev, ` + uplinkNames + `) SELECT ?::bytea, 1, id, source, CASE WHEN fate = 0 THEN device ELSE '\x00000000000000000000000000000000' END, node,
				CASE WHEN fate = 0 THEN state ELSE 'quarantined' END, CASE WHEN fate = 0 THEN reason ELSE 'duplicate_mismatch' END, ` + after(uplinkNames, "reason") + ` FROM fates WHERE fate <= 0
			ON CONFLICT DO NOTHING RETURNING id, device, state, reason, received),
		told AS (INSERT INTO outcomes (tenant, ` + outcomeNames + `) SELECT ?::bytea, ` + of("x", outcomeNames) + ` FROM ` + unnested(outcomes, outcomeTypes) + ` AS x (` + outcomeNames + `) JOIN kept ON kept.id = x.uplink AND state <> 'quarantined'),
		made AS (INSERT INTO readings (tenant, ` + readingNames + `) SELECT ?::bytea, ` + of("x", readingNames) + ` FROM ` + unnested(readings, readingTypes) + ` AS x (` + readingNames + `) JOIN kept ON kept.id = x.uplink AND state <> 'quarantined' RETURNING device, at, fcnt, uplink, id),
		sent AS (INSERT INTO outbox (tenant, event, shard, key, value) SELECT ?::bytea, event, shard, key, value FROM ` + unnested(outs, outTypes) + ` AS x (place, event, shard, key, value) JOIN kept ON kept.id = x.event AND state <> 'quarantined' ORDER BY x.place),
		newest AS (INSERT INTO latest (tenant, device, at, fcnt, uplink, id) SELECT DISTINCT ON (device) ?::bytea, device, at, fcnt, uplink, id FROM made ORDER BY device, at DESC, fcnt DESC, uplink DESC
			` + isLatest + `),
		lively AS (INSERT INTO seen (tenant, device, at) SELECT ?::bytea, device, max(received) FROM kept WHERE state NOT IN ('accepted', 'quarantined') AND device <> '\x00000000000000000000000000000000' GROUP BY device ORDER BY device
			` + isLively + `)
		SELECT ` + strconv.Itoa(isStale) + `::bigint, NULL::bytea, NULL::bytea, NULL::text WHERE NOT (SELECT so FROM same)
		UNION ALL SELECT fate, id, holder, NULL FROM fates WHERE fate > 0
		UNION ALL SELECT ` + strconv.Itoa(isHeld) + `, id, NULL, reason FROM kept WHERE state = 'quarantined'
		UNION ALL SELECT ` + strconv.Itoa(isSooner) + fmt.Sprintf(`, NULL, NULL, NULL WHERE (SELECT due FROM known WHERE known.tenant = $1) > (SELECT min(arrived) + %d FROM came WHERE dedupe <> '\x%064d')`, store.DedupeWindow.Microseconds(), 0)
}

// remembered is how long a duplicate is known by its id, if it comes again: longer than what carries records keeps them.
const remembered = 8 * 24 * time.Hour

// duplicatesStatement keeps what is told of duplicates that are no uplinks, whose key went to another since; of one that comes
// twice at once, once. Their ids are kept among the keys, by which they are known if they come again.
func duplicatesStatement() string {
	return "WITH x AS MATERIALIZED (SELECT * FROM " + unnested(2, outcomeTypes) + " AS x (" + outcomeNames + ") WHERE (SELECT true FROM uplinks k WHERE k.tenant = ? AND k.id = x.id) IS NULL), " +
		"told AS (INSERT INTO outcomes (tenant, " + outcomeNames + ") SELECT ?::bytea, x.* FROM x ON CONFLICT DO NOTHING) " +
		fmt.Sprintf("INSERT INTO dedupe (tenant, key, uplink, payload_hash, expires) SELECT ?::bytea, id, id, hash, at + %d FROM x ORDER BY id ON CONFLICT DO NOTHING", remembered.Microseconds())
}

// foldsStatement counts up; in the order of their keys, so that no two wait for each other.
func foldsStatement() string {
	return "INSERT INTO folds (tenant, " + foldNames + ") SELECT ?::bytea, x.* FROM " + unnested(2, foldTypes) + " AS x (" + foldNames + ") ORDER BY key, node, bucket ON CONFLICT (tenant, kind, key, node, bucket) DO UPDATE SET count = folds.count + excluded.count"
}

// after are the names behind one.
func after(names, name string) string {
	_, rest, _ := strings.Cut(names, name+", ")
	return rest
}

func of(alias, names string) string {
	return alias + "." + strings.ReplaceAll(names, ", ", ", "+alias+".")
}

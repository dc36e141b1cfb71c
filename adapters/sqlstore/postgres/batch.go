package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// sendAhead is how much of a batch is gathered before it is sent, in bytes.
const sendAhead = 1 << 20

// errAlone asks for each part to be written alone.
var errAlone = errors.New("parts that cannot be written together")

// texts are the statements of batches, as they are prepared.
type texts struct{ settings, free, show, plain, part, duplicates, folds, sooner string }

func newTexts() *texts {
	asked := func(q string) string { return strings.ReplaceAll(sqlstore.Guarded(q), "?", "$1") }
	return &texts{settings, asked(showFree), asked(showShared), asked(plainStatement()), asked(partStatement()), asked(duplicatesStatement()), asked(foldsStatement()), sooner("$2", "$1")}
}

// batch writes parts, in their order, in the transaction that a connection has open, and answers what is wrong with each. An
// error is of all: the transaction is to be rolled back. Statements are sent ahead of the answers to those before them, so that
// many tenants wait as little as one. Each part begins by saying whose it is, and what stands behind a statement that fails is
// not run: nothing is ever asked under another tenant.
func (t *texts) batch(ctx context.Context, conn *sql.Conn, parts []*store.Part, how sqlstore.Manner) (errs []error, err error) {
	broken := conn.Raw(func(driver any) error {
		c, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("a connection of %T", driver)
		}
		b := &batching{conn: c.Conn(), parts: parts, errs: make([]error, len(parts)), Manner: how}
		err, errs = told(b.run(ctx, t)), b.errs
		if pg := new(pgconn.PgError); errors.As(err, &pg) && pg.Code == "55P03" { // lock_timeout
			err = store.ErrBusy
		}
		return nil // whether it is of use, the connection says itself
	})
	return errs, errors.Join(broken, err)
}

// batching is a batch under way.
type batching struct {
	conn  *pgx.Conn
	parts []*store.Part
	errs  []error
	sqlstore.Manner
	now   ident.Tenant // whose what is sent is
	line  *pgconn.Pipeline
	takes []func([][]byte) error // what takes the rows of each statement that was sent
	ahead int
}

// todo is what is left to do of a part.
type todo struct {
	rows       []int
	duplicates []uplink.Outcome
	folds      map[store.Fold]int64
	sooner     bool
}

func (t todo) tells() bool { return t.duplicates != nil || t.folds != nil || t.sooner }

func (b *batching) run(ctx context.Context, t *texts) error {
	left := make([]todo, len(b.parts))
	for i, p := range b.parts {
		left[i].rows = inOrder(p)
	}
	settings, err := b.conn.Prepare(ctx, t.settings, t.settings)
	if err != nil {
		return err
	}
	whose, text := t.free, t.part
	if b.Wait {
		whose = t.show
	}
	if b.Plain {
		text = t.plain
	}
	show, part, err := b.prepared(ctx, whose, text)
	for err == nil {
		err = b.ask(ctx, func() error { return errors.Join(b.send(settings, nothing), b.write(show, part, left)) })
		if !slices.ContainsFunc(left, func(t todo) bool { return len(t.rows) > 0 }) {
			break
		}
		if err == nil && len(b.parts) > 1 {
			return errAlone // what is left comes before the next part
		}
	}
	if err != nil || !slices.ContainsFunc(left, todo.tells) {
		return err
	}
	duplicates, folds, err := b.prepared(ctx, t.duplicates, t.folds)
	if err != nil {
		return err
	}
	sooner, err := b.conn.Prepare(ctx, t.sooner, t.sooner)
	if err != nil {
		return err
	}
	return b.ask(ctx, func() error { return b.tell(show, duplicates, folds, sooner, left) })
}

// prepared are two statements, prepared unless the connection has them.
func (b *batching) prepared(ctx context.Context, one, other string) (first, second *pgconn.StatementDescription, err error) {
	if first, err = b.conn.Prepare(ctx, one, one); err == nil {
		second, err = b.conn.Prepare(ctx, other, other)
	}
	return first, second, err
}

// inOrder are the rows of a part in the order of their devices, so that no two batches wait for each other, without those whose
// id another row before them has.
func inOrder(p *store.Part) []int {
	there, rows := make(map[ident.Uplink]struct{}, len(p.Rows)), make([]int, 0, len(p.Rows))
	for i := range p.Rows {
		id := p.Rows[i].Uplink.ID
		if _, twice := there[id]; !twice {
			there[id] = struct{}{}
			rows = append(rows, i)
		}
	}
	slices.SortFunc(rows, func(i, j int) int {
		a, b := &p.Rows[i].Uplink, &p.Rows[j].Uplink
		return cmp.Or(a.Device.Compare(b.Device), a.ID.Compare(b.ID))
	})
	return rows
}

// ask sends what is asked, and takes all answers.
func (b *batching) ask(ctx context.Context, send func() error) (err error) {
	b.line, b.takes, b.ahead, b.now = b.conn.PgConn().StartPipeline(ctx), b.takes[:0], 0, ident.Tenant{}
	defer func() { err = errors.Join(err, b.line.Close()) }()
	if err := errors.Join(send(), b.line.Sync()); err != nil {
		return err
	}
	for _, take := range b.takes {
		answer, err := b.line.GetResults()
		if err != nil {
			return err
		}
		rows, ok := answer.(*pgconn.ResultReader)
		if !ok {
			return fmt.Errorf("an answer of %T", answer)
		}
		for rows.NextRow() {
			if err := take(rows.Values()); err != nil {
				return err
			}
		}
		if _, err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (b *batching) send(s *pgconn.StatementDescription, take func([][]byte) error, args ...[]byte) error {
	b.line.SendQueryStatement(s, args, []int16{pgx.BinaryFormatCode}, []int16{pgx.BinaryFormatCode})
	b.takes = append(b.takes, take)
	for _, a := range args {
		b.ahead += len(a)
	}
	if b.ahead < sendAhead {
		return nil
	}
	b.ahead = 0
	return b.line.Flush()
}

// nothing takes rows that say nothing.
func nothing([][]byte) error { return nil }

// shown says whose the statements behind it are, unless they stand behind another part of that tenant's: if that is not written,
// nor are they.
func (b *batching) shown(show *pgconn.StatementDescription, p *store.Part) error {
	t := p.Scope.Tenant()
	if b.now == t {
		return nil
	}
	b.now = t
	return b.send(show, func(row [][]byte) error {
		for i := 0; !b.Wait && len(row[0]) == 0 && i < len(b.parts); i++ {
			if b.parts[i].Scope.Tenant() == t {
				b.errs[i] = store.ErrBusy
			}
		}
		return nil
	}, hex.AppendEncode(nil, t[:]))
}

// write sends what is left of each part.
func (b *batching) write(show, part *pgconn.StatementDescription, left []todo) error {
	args := newArguments(strings.Join(columns(b.Plain), ""))
	for i, p := range b.parts {
		rows, l := left[i].rows, &left[i]
		l.rows = nil
		if b.Plain && (twice(p, rows) || i > 0 && b.parts[i-1].Scope.Tenant() == p.Scope.Tenant()) {
			b.errs[i] = sqlstore.ErrApart
			continue
		}
		args.begin()
		if err := errors.Join(b.fill(args.columns, p, rows), b.shown(show, p)); err != nil {
			return err
		}
		t := p.Scope.Tenant()
		single := [][]byte{t[:], binary.BigEndian.AppendUint64(nil, p.Seen.Revision)}
		if b.Plain {
			l.folds = quarantined(p, rows)
			single = append(single, binary.BigEndian.AppendUint64(nil, uint64(firstOver(p)))) //nolint:gosec // kept bit for bit
		}
		if err := b.send(part, func(row [][]byte) error { return b.became(i, l, rows, row) }, args.with(single...)...); err != nil {
			return err
		}
	}
	return nil
}

// became takes what the statement says of a part or of one of its rows.
func (b *batching) became(i int, l *todo, rows []int, row [][]byte) error {
	what := binary.BigEndian.Uint64(row[0])
	switch what {
	case isStale:
		if l.folds = nil; b.errs[i] == nil { // else it is nobody's
			b.errs[i] = store.ErrStale
		}
		return nil
	case isKnown:
		b.errs[i], l.folds = sqlstore.ErrApart, nil
		return nil
	case isSooner:
		l.sooner = true
		return nil
	}
	n := slices.IndexFunc(rows, func(n int) bool { return string(b.parts[i].Rows[n].Uplink.ID[:]) == string(row[1]) })
	if n < 0 {
		return errors.New("an answer about no row")
	}
	u := &b.parts[i].Rows[rows[n]].Uplink
	switch what {
	case isDuplicate:
		if len(row[2]) != ident.Size {
			return errors.New("an answer about no first one")
		}
		l.duplicates = append(l.duplicates, store.DuplicateOutcome(*u, ident.Uplink(row[2])))
	case isLater:
		l.rows = append(l.rows, rows[n])
	case isHeld:
		if l.folds == nil {
			l.folds = map[store.Fold]int64{}
		}
		l.folds[store.QuarantineFold(*u, uplink.Reason(row[3]))]++
	default:
		return fmt.Errorf("an answer that is none: %d", what)
	}
	return nil
}

// tell sends what is to be told of duplicates, the counters of what is quarantined, and when keys are over.
func (b *batching) tell(show, duplicates, folds, sooner *pgconn.StatementDescription, left []todo) error {
	outcomes, counters := newArguments(outcomeTypes), newArguments(foldTypes)
	for i, p := range b.parts {
		t, l := p.Scope.Tenant(), left[i]
		if !l.tells() {
			continue
		}
		if err := b.shown(show, p); err != nil {
			return err
		}
		if l.duplicates != nil {
			outcomes.begin()
			for n := range l.duplicates {
				fillOutcome(outcomes.columns, &l.duplicates[n])
			}
			if err := b.send(duplicates, nothing, outcomes.with(t[:])...); err != nil {
				return err
			}
		}
		if l.folds != nil {
			counters.begin()
			for f, n := range l.folds {
				fillFold(counters.columns, &f, n)
			}
			if err := b.send(folds, nothing, counters.with(t[:])...); err != nil {
				return err
			}
		}
		if l.sooner {
			if err := b.send(sooner, nothing, t[:], binary.BigEndian.AppendUint64(nil, uint64(firstOver(p)))); err != nil { //nolint:gosec // kept bit for bit
				return err
			}
		}
	}
	return nil
}

// twice reports whether two rows have one key.
func twice(p *store.Part, rows []int) bool {
	keys := make(map[[32]byte]struct{}, len(rows))
	for _, n := range rows {
		key := p.Rows[n].Uplink.DedupeKey
		if _, there := keys[key]; there && key != ([32]byte{}) {
			return true
		}
		keys[key] = struct{}{}
	}
	return false
}

// quarantined are the counters of rows that come to quarantine.
func quarantined(p *store.Part, rows []int) (folds map[store.Fold]int64) {
	for _, n := range rows {
		if u := &p.Rows[n].Uplink; u.State == uplink.Quarantined {
			if folds == nil {
				folds = map[store.Fold]int64{}
			}
			folds[store.QuarantineFold(*u, u.Reason)]++
		}
	}
	return folds
}

// firstOver is when the first of a part's keys is over.
func firstOver(p *store.Part) int64 {
	first := int64(math.MaxInt64)
	for i := range p.Rows {
		if u := &p.Rows[i].Uplink; u.DedupeKey != ([32]byte{}) {
			first = min(first, micros(u.ArrivedAt.Add(store.DedupeWindow)))
		}
	}
	return first
}

// fill writes what a part has seen, and rows of it, into the columns of its statement.
func (b *batching) fill(c []array, p *store.Part, rows []int) error {
	pairs(c[0:], p.Seen.Sources)
	pairs(c[2:], p.Seen.Keys)
	pairs(c[4:], p.Seen.Devices)
	pairs(c[6:], p.Seen.Decoders)
	for _, a := range p.Seen.Unknown {
		c[8].text(string(a.Kind))
		c[9].text(a.Value)
	}
	c = c[len(seenTypes):]
	outcomes := c[1+len(uplinkTypes):]
	readings := outcomes[len(outcomeTypes):]
	outs := readings[len(readingTypes):]
	for _, n := range rows {
		f := &p.Rows[n]
		if !b.Plain {
			c[0].long(int64(n))
		} else if c[0].bytes(f.Uplink.ID[:]); f.Uplink.DedupeKey != ([32]byte{}) {
			c[0].bytes(f.Uplink.DedupeKey[:])
		}
		fillUplink(c[1:], &f.Uplink)
		if f.Outcome != nil {
			fillOutcome(outcomes, f.Outcome)
		}
		if f.Reading != nil {
			if err := fillReading(readings, f.Reading); err != nil {
				return err
			}
		}
		if o := f.Out; o != nil {
			outs[0].long(int64(n))
			outs[1].bytes(o.Event[:])
			outs[2].long(int64(store.OutboxShard(p.Scope.Tenant(), o.Key)))
			outs[3].text(o.Key)
			outs[4].bytes(o.Value)
		}
	}
	if b.Plain {
		fillLast(outs[len(outTypes):], p, rows)
	}
	return nil
}

// fillLast writes each device's latest reading and sign of life; rows are in the order of their devices.
func fillLast(c []array, p *store.Part, rows []int) {
	lively := c[len(latestTypes):]
	for len(rows) > 0 {
		device, latest, at := p.Rows[rows[0]].Uplink.Device, (*uplink.Reading)(nil), int64(math.MinInt64)
		for len(rows) > 0 && p.Rows[rows[0]].Uplink.Device == device {
			f := &p.Rows[rows[0]]
			rows = rows[1:]
			if s := f.Uplink.State; s != uplink.Accepted && s != uplink.Quarantined {
				at = max(at, micros(f.Uplink.ReceivedAt))
			}
			if f.Reading != nil && (latest == nil || later(f.Reading, latest)) {
				latest = f.Reading
			}
		}
		if latest != nil {
			c[0].bytes(latest.Device[:])
			c[1].long(micros(latest.At))
			c[2].long(int64(latest.FCnt)) //nolint:gosec // kept bit for bit
			c[3].bytes(latest.Uplink[:])
			c[4].bytes(latest.ID[:])
		}
		if at != math.MinInt64 && device != (ident.Device{}) {
			lively[0].bytes(device[:])
			lively[1].long(at)
		}
	}
}

// later is the order of a device's readings, as they are kept.
func later(a, b *uplink.Reading) bool {
	return cmp.Or(cmp.Compare(micros(a.At), micros(b.At)), cmp.Compare(int64(a.FCnt), int64(b.FCnt)), a.Uplink.Compare(b.Uplink)) > 0 //nolint:gosec // kept bit for bit
}

func pairs[K ident.Kind](c []array, seen map[ident.ID[K]]uint64) {
	for id, rev := range seen {
		c[0].bytes(id[:])
		c[1].long(int64(rev)) //nolint:gosec // counts up by one
	}
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fillUplink(c []array, u *uplink.Uplink) {
	for i, b := range [][]byte{u.ID[:], u.Source[:], u.Device[:], u.Node[:]} {
		c[i].bytes(b)
	}
	for i, s := range []string{string(u.State), string(u.Reason), string(u.Address.Kind), u.Address.Value, u.Application, u.Session} {
		c[4+i].text(s)
	}
	c[10].long(int64(u.FPort))
	c[11].long(int64(u.FCnt)) //nolint:gosec // kept bit for bit
	c[12].flag(u.HasFCnt)
	for i, b := range [][]byte{u.Payload, u.DedupeKey[:], u.PayloadHash[:]} {
		c[13+i].bytes(b)
	}
	for i, n := range []int64{micros(u.ArrivedAt), micros(u.NetworkTime), micros(u.ReceivedAt), int64(u.Attempts), micros(u.NotBefore), micros(u.ReleasedAt), micros(u.UpdatedAt)} {
		c[16+i].long(n)
	}
}

func fillOutcome(c []array, o *uplink.Outcome) {
	for i, b := range [][]byte{o.ID[:], o.Uplink[:], o.Device[:], o.Node[:], o.Decoder[:], o.Version[:], o.Hash[:]} {
		c[i].bytes(b)
	}
	c[7].text(o.Engine)
	c[8].text(string(o.Category))
	c[9].long(o.Fuel)
	c[10].long(int64(o.Duration))
	c[11].text(o.Message)
	c[12].long(micros(o.At))
}

func fillReading(c []array, r *uplink.Reading) error {
	warnings, err := json.Marshal(r.Warnings)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode", "A record could not be written.")
	}
	c[0].bytes(r.Device[:])
	c[1].long(micros(r.At))
	for i, b := range [][]byte{r.ID[:], r.Uplink[:], r.Node[:], r.Decoder[:], r.Version[:]} {
		c[2+i].bytes(b)
	}
	c[7].long(int64(r.FCnt)) //nolint:gosec // kept bit for bit
	c[8].flag(r.HasFCnt)
	c[9].text(r.Session)
	c[10].bytes(r.Data)
	c[11].bytes(warnings)
	return nil
}

func fillFold(c []array, f *store.Fold, n int64) {
	c[0].text(f.Kind)
	c[1].text(f.Key)
	c[2].bytes(f.Node[:])
	c[3].long(micros(f.Bucket))
	c[4].long(micros(f.Until))
	c[5].long(n)
}

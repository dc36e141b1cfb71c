package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// array is one column of many rows as an argument: an array in PostgreSQL's binary form. The driver's own way looks at each
// element by reflection.
type array struct {
	n   uint32
	buf []byte
}

// head is what stands before the elements: dimensions, whether any is NULL, their type, how many, the first one's index.
const head = 20

func (a *array) bytes(b []byte) {
	a.n++
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, uint32(len(b))), b...) //nolint:gosec // bounded by what is kept of it
}

func (a *array) text(s string) {
	a.n++
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, uint32(len(s))), s...) //nolint:gosec // bounded by what is kept of it
}

func (a *array) long(n int64) {
	a.n++
	a.buf = binary.BigEndian.AppendUint64(append(a.buf, 0, 0, 0, 8), uint64(n)) //nolint:gosec // kept bit for bit
}

func (a *array) flag(b bool) {
	a.n++
	if a.buf = append(a.buf, 0, 0, 0, 1, 0); b {
		a.buf[len(a.buf)-1] = 1
	}
}

// arguments are those of one statement: single ones, then columns, of types that are said by a letter each (b bytes, t text,
// n numbers of 64 bits, f flags). They are used again for the next rows.
type arguments struct {
	types   string
	columns []array
	values  [][]byte
}

func newArguments(types string) *arguments {
	return &arguments{types: types, columns: make([]array, len(types)), values: make([][]byte, 0, 2+len(types))}
}

func (a *arguments) begin() {
	for i := range a.columns {
		a.columns[i].n, a.columns[i].buf = 0, append(a.columns[i].buf[:0], make([]byte, head)...)
	}
}

// with are all of them.
func (a *arguments) with(single ...[]byte) [][]byte {
	a.values = append(a.values[:0], single...)
	for i, letter := range a.types {
		of := uint32(pgtype.ByteaOID)
		switch letter {
		case 't':
			of = pgtype.TextOID
		case 'n':
			of = pgtype.Int8OID
		case 'f':
			of = pgtype.BoolOID
		}
		c := &a.columns[i]
		binary.BigEndian.PutUint32(c.buf[8:], of)
		if c.n == 0 { // an empty array has no dimension
			a.values = append(a.values, c.buf[:12])
			continue
		}
		binary.BigEndian.PutUint32(c.buf, 1)
		binary.BigEndian.PutUint32(c.buf[12:], c.n)
		binary.BigEndian.PutUint32(c.buf[16:], 1)
		a.values = append(a.values, c.buf)
	}
	return a.values
}

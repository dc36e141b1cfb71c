package tenant

import (
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/ringfence/ringfence/core/fault"
)

// Limits are what one tenant may use (security.md §1.6). Rates are per second. A zero field means the server's setting.
type Limits struct {
	SourceRate, SourceBurst int // ingest, per source
	IngestRate, IngestBurst int // ingest, per tenant
	InFlight                int // ingest requests at the same time, per tenant
	Backlog                 int // accepted uplinks that wait to be processed
	FuelPerMinute           int64
	PrincipalRate           int // API, per principal
	PrincipalBurst          int
	TenantRate              int // API, per tenant
	Devices, Nodes, Members int // counts of things
	Groups, Roles           int
	Memberships             int
	Decoders, Versions      int // Versions are kept per decoder
	Sources, KeysPerSource  int
	TokensPerPerson         int
	Invitations             int
}

// DefaultLimits hold unless the server or a platform administrator says otherwise.
var DefaultLimits = Limits{
	SourceRate: 100, SourceBurst: 500, IngestRate: 1_000, IngestBurst: 5_000, InFlight: 8, Backlog: 50_000,
	FuelPerMinute: 600_000_000,
	PrincipalRate: 50, PrincipalBurst: 100, TenantRate: 500,
	Devices: 100_000, Nodes: 2_000, Members: 5_000, Groups: 500, Roles: 200, Memberships: 20_000,
	Decoders: 500, Versions: 50, Sources: 100, KeysPerSource: 2, TokensPerPerson: 5, Invitations: 200,
}

// MaxLimits bounds what may be granted: what a policy can hold at all, and numbers that no tenant comes near.
var MaxLimits = Limits{
	SourceRate: 1_000_000, SourceBurst: 1_000_000, IngestRate: 1_000_000, IngestBurst: 1_000_000, InFlight: 10_000, Backlog: 100_000_000,
	FuelPerMinute: 1_000_000_000_000,
	PrincipalRate: 1_000_000, PrincipalBurst: 1_000_000, TenantRate: 1_000_000,
	Devices: 10_000_000, Nodes: 2_000, Members: 5_000, Groups: 500, Roles: 200, Memberships: 20_000,
	Decoders: 10_000, Versions: 200, Sources: 10_000, KeysPerSource: 10, TokensPerPerson: 100, Invitations: 10_000,
}

// Over fills what a grant leaves open with the server's settings.
func (l Limits) Over(server Limits) Limits {
	out, under := reflect.ValueOf(&l).Elem(), reflect.ValueOf(server)
	for i := range out.NumField() {
		if out.Field(i).Int() == 0 {
			out.Field(i).SetInt(under.Field(i).Int())
		}
	}
	return l
}

// Check refuses a grant beyond MaxLimits, or below nothing.
func (l Limits) Check() error {
	v, most := reflect.ValueOf(l), reflect.ValueOf(MaxLimits)
	for i := range v.NumField() {
		if n := v.Field(i).Int(); n < 0 || n > most.Field(i).Int() {
			return fault.New(fault.Invalid, "bad_limit", "A limit is a number from 1 to the largest one that can be granted, or absent for the server's own.").WithField("/"+snake(v.Type().Field(i).Name), "out of range")
		}
	}
	return nil
}

// Diff lists what differs, as name=number, in two ways: before and after. 0 is the server's setting.
func (l Limits) Diff(next Limits) (was, is []string) {
	a, b := reflect.ValueOf(l), reflect.ValueOf(next)
	for i := range a.NumField() {
		if old, now := a.Field(i).Int(), b.Field(i).Int(); old != now {
			name := snake(a.Type().Field(i).Name)
			was, is = append(was, name+"="+strconv.FormatInt(old, 10)), append(is, name+"="+strconv.FormatInt(now, 10))
		}
	}
	return was, is
}

// snake is a field's name as the API has it.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

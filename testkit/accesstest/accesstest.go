// Package accesstest proves that an evaluator decides as the model of core/access says, and that what stands around it, the
// gate's cache and the rule of grants, gives nobody more. Evaluators are compared with a reference that is short enough to be
// read, on random records; every promise is a check with a sentence for its name. It measures no speed.
package accesstest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
)

// Policy is what an evaluator makes of one tenant's records; *access.Policy is one.
type Policy interface {
	Decide(s access.Subject, p access.Permission, node ident.Node, now time.Time) access.Decision
	Anywhere(s access.Subject, p access.Permission, now time.Time) access.Decision
	Reach(s access.Subject, p access.Permission, now time.Time) access.Reach
	Held(s access.Subject, node ident.Node, recursive bool, now time.Time) access.Set
	HeldUntil(s access.Subject, node ident.Node, recursive bool, now, until time.Time) access.Set
}

// Options say what is proved, and how long.
type Options struct {
	Compile func(access.Records) Policy // must keep nothing between two calls
	Sets    int                         // random policy sets; each is asked ten times
	Seed    uint64
}

// Check is one promise.
type Check struct {
	Name string
	Run  func(t testing.TB, o Options)
}

// Run runs every check.
func Run(t *testing.T, o Options) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, o) })
	}
}

// Checks are all promises of an evaluator.
func Checks() []Check {
	return []Check{
		{"ItDecidesAsTheReferenceDoes", decides},
		{"ReachIsWhereItAllows", reaches},
		{"HeldIsWhatAGrantWouldGiveNothingMoreThan", holds},
		{"TheOrderOfRecordsDoesNotMatter", ordered},
		{"OneMoreMembershipTakesNothingAway", grows},
		{"OneLessMembershipGivesNothing", shrinks},
		{"AnotherTenantsRecordsChangeNothing", apart},
		{"CirclesOfGroupsAndNodesEnd", circles},
		{"WhatHasExpiredIsAsIfItWereNotThere", expires},
		{"NobodyGrantsWhatTheyLack", escalates},
	}
}

// dice are the checks' own, so that a failure can be thrown again by its seed.
func (o Options) dice(check uint64) *rand.Rand {
	return rand.New(rand.NewPCG(o.Seed, check)) //nolint:gosec // a test's dice
}

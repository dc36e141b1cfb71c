package httpapi

import "testing"

func TestARowThatDoesNotFitIsAnErrorAtItsLine(t *testing.T) {
	rows, err := csvRows("name,serial\none,A1\nshort\n\n\"two\nlines\",A2\nlong,A3,more\nfo\"o,A4\nthree,A5\n\"never,A6\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		line  int
		name  string
		wrong bool
	}{{2, "one", false}, {3, "", true}, {5, "two\nlines", false}, {7, "", true}, {8, "", true}, {9, "three", false}, {10, "", true}}
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d: %+v", len(rows), len(want), rows)
	}
	for i, r := range rows {
		if w := want[i]; r.Row != w.line || r.Device.Name != w.name || (r.Error != nil) != w.wrong || w.wrong && (r.Error.Row != w.line || r.Error.Detail == "") {
			t.Errorf("row %d: %+v %+v, want %+v", i, r, r.Error, w)
		}
	}
	for _, none := range []string{"", "\"", "name,name\n", "colour\nred\n"} {
		if _, err := csvRows(none); err == nil {
			t.Errorf("%q is taken for a table", none)
		}
	}
}

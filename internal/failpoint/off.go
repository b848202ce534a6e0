//go:build !failpoints

package failpoint

// Enabled says whether this binary was built with the tag failpoints.
const Enabled = false

// Hit does nothing; see the version with the tag.
func Hit(Point) error { return nil }

// Bug is false; see the version with the tag.
func Bug(SeededBug) bool { return false }

package circleci

import "regexp"

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// isUUID guards every id before it goes into a path and every id that a decision will be compared with.
func isUUID(id string) bool { return uuid.MatchString(id) }

//go:build race

package attack_test

// raceDetector makes every process several times as large.
const raceDetector = true

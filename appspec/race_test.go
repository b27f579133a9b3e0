//go:build race

package appspec

// raceDetector says that the tests run under the race detector. What only
// measures single-threaded code leaves the measuring to the run without it.
const raceDetector = true

//go:build !race

package appspec

const raceDetector = false

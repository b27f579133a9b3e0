// Package examples holds application specs that run as they are, each with the
// programs of its replicas in the folder of its name. Its tests run them.
package examples

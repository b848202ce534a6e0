// Package linear holds tests to costs that do not grow with the size of a job.
package linear

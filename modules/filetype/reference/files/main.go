package main

import (
	"fmt"
	"os"
	"sort"
)

type Bird struct {
	Name string
	Mass float64
}

func main() {
	birds := []Bird{{"giant", 20}, {"bee", 2}}
	sort.Slice(birds, func(i, j int) bool { return birds[i].Mass < birds[j].Mass })
	for _, b := range birds {
		if _, err := fmt.Fprintf(os.Stdout, "%s %.1f\n", b.Name, b.Mass); err != nil {
			os.Exit(1)
		}
	}
}

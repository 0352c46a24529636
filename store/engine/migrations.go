package engine

import "io/fs"

// Migrations reads the steps that lead from schema to schema, in order. It panics when
// it cannot, because the program holds them.
func Migrations(files fs.FS) (steps []string) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		steps = append(steps, string(text))
	}
	return steps
}

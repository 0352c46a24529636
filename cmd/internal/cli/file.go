package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReplaceFile puts text in place of a file, so that a reader or a crash finds
// either the old or the new one whole. The file beside it, which becomes the new
// one, has a name that nobody else has. A link stays, and what it leads to is
// replaced. What is no regular file, such as a pipe or /dev/null, stays, too: the
// text is written into it.
func ReplaceFile(name string, text []byte, mode fs.FileMode) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return writeInto(name, text)
	}
	target, err := behind(name)
	if err != nil {
		return err
	}
	beside, err := WriteBeside(target, text, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(beside, target); err != nil {
		return errors.Join(err, os.Remove(beside))
	}
	return nil
}

// WriteBeside writes text to a new file, in the directory in which [ReplaceFile]
// would put it, and returns the new file's name.
func WriteBeside(name string, text []byte, mode fs.FileMode) (beside string, err error) {
	target, err := behind(name)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(target), filepath.Base(target)+".*.tmp")
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// behind is the file that a name leads to, which need not exist yet.
func behind(name string) (string, error) {
	const mostLinks = 40 // as in Linux
	for range mostLinks {
		target, err := os.Readlink(name)
		if err != nil {
			return name, nil // it is no link
		}
		if !filepath.IsAbs(target) {
			// Join would take ".." away without regard to links among the directories.
			target = filepath.Dir(name) + string(filepath.Separator) + target
		}
		name = target
	}
	return "", fmt.Errorf("%s leads through too many links", name)
}

func writeInto(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

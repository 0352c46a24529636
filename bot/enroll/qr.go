package enroll

import (
	"errors"
	"fmt"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quietZone is the white border that readers need, in modules (ISO/IEC 18004).
const quietZone = 4

// picture is a QR code as one SVG path, one unit per module.
type picture struct {
	Size int // of each side, border included
	Path string
}

// errDraw is told without the library's error, which may repeat the content: the key.
var errDraw = errors.New("the QR code could not be drawn")

// draw makes the picture of a QR code, in which each run of dark modules of a row is
// one rectangle.
func draw(content string) (picture, error) {
	code, err := qr.Encode(content, qr.M, qr.Auto)
	if err != nil {
		return picture{}, errDraw
	}
	side := code.Bounds().Dx()
	dark := func(x, y int) bool {
		r, _, _, _ := code.At(x, y).RGBA()
		return r == 0
	}
	var path strings.Builder
	for y := range side {
		for x := 0; x < side; {
			run := 0
			for x+run < side && dark(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x+quietZone, y+quietZone, run, run)
			}
			x += run + 1
		}
	}
	return picture{Size: side + 2*quietZone, Path: path.String()}, nil
}

#!/bin/sh
# Make the videos of this folder and the references beside them, with ffmpeg 5.1 or newer (libx264, libx265, libvpx,
# libaom, zscale). NAME.frame is frame 0 as ffmpeg shows it: raw gbrp16le, the planes green, blue and red.
set -e
cd "$(dirname "$0")"
WAVES="color=s=48x32:r=12:d=0.5,format=gbrp,geq=r='128+100*sin(X/9+T*3)':g='128+100*sin(Y/7-T*2)':b='128+100*cos((X+Y)/11)'"
FADE="format=gbrap,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*X/47'"
ffmpeg() { command ffmpeg -v error -nostdin -y "$@"; }
lossless() { echo "-c:v libx264 -qp 0 -preset veryslow"; }

# frame NAME.SUFFIX FILTERS...: frame 0 as 16-bit RGB after these filters.
frame() { ffmpeg -i "$1" -vf "$2" -frames:v 1 -f rawvideo -pix_fmt gbrp16le "${1%.*}.frame"; }

# Matrices and ranges. zscale converts by the tags that the file has.
tagged() { # NAME pix_fmt matrix primaries transfer range matrix-of-zscale
    ffmpeg -f lavfi -i "$WAVES" -vf "zscale=m=${7:-$3}:r=$6:min=gbr,format=$2" -colorspace "$3" -color_primaries "$4" \
        -color_trc "$5" -color_range "$6" $(lossless) "$1.mp4"
}
tagged bt709_full yuv444p bt709 bt709 bt709 pc 709
tagged bt601_full yuv420p smpte170m smpte170m smpte170m pc 170m
tagged bt709 yuv444p bt709 bt709 bt709 tv 709
tagged bt601 yuv444p smpte170m smpte170m smpte170m tv 170m
tagged bt470bg yuv420p bt470bg bt470bg gamma28 tv 470bg
for name in bt709_full bt601_full bt709 bt601 bt470bg; do frame $name.mp4 "zscale=m=gbr:r=pc,format=gbrp16le"; done
ffmpeg -f lavfi -i "$WAVES" -c:v libx264rgb -qp 0 rgb.mp4
frame rgb.mp4 "format=gbrp,format=gbrp16le"
ffmpeg -f lavfi -i "$WAVES" -c:v mjpeg -q:v 2 -pix_fmt yuvj422p jpeg.avi
frame jpeg.avi "zscale=min=470bg:rin=pc:m=gbr:r=pc,format=gbrp16le"

# Wide gamuts and HDR: the same code values, read as BT.2020 of three transfers.
wide() { # NAME x265-transfer
    ffmpeg -f lavfi -i "$WAVES" -vf "zscale=m=2020_ncl:r=tv:min=gbr,format=yuv444p10le" -colorspace bt2020nc \
        -color_primaries bt2020 -color_trc "$2" -c:v libx265 -tag:v hvc1 -frames:v 3 -x265-params \
        "lossless=1:log-level=error:colorprim=bt2020:transfer=$2:colormatrix=bt2020nc" "$1.mkv"
}
wide bt2020 bt2020-10
wide pq smpte2084
wide hlg arib-std-b67
frame bt2020.mkv "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,zscale=t=bt709:m=gbr:r=pc,format=gbrp16le"
frame pq.mkv "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:param=0.3:desat=0:peak=4.926108,zscale=t=bt709:m=gbr:r=pc,format=gbrp16le"

# Shapes: turned by the player, and pixels that are no squares.
for turn in 90 180 270; do
    ffmpeg -i bt709.mp4 -c copy -metadata:s:v rotate=$turn turned_$turn.mp4
    frame turned_$turn.mp4 "zscale=m=gbr:r=pc,format=gbrp16le"
done
ffmpeg -i bt709.mp4 -vf setsar=2/1 $(lossless) wide_pixels.mp4
ffmpeg -i bt709.mp4 -vf setsar=3/4 $(lossless) narrow_pixels.mp4

# Transparency over white, as ffmpeg's overlay shows it.
over() { ffmpeg $3 -i "$1" -f lavfi -i color=white:s=48x32,format=gbrp -filter_complex "[0]format=gbrap[f];[1][f]overlay=format=gbrp,format=gbrp16le" -frames:v 1 -f rawvideo -pix_fmt gbrp16le "$2.frame"; }
ffmpeg -f lavfi -i "$WAVES,$FADE" -frames:v 3 -c:v libvpx-vp9 -pix_fmt yuva420p -lossless 1 -colorspace smpte170m alpha_vp9.webm
ffmpeg -f lavfi -i "$WAVES,$FADE" -frames:v 3 -c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le -qscale:v 1 alpha_prores.mov
ffmpeg -f lavfi -i "$WAVES,$FADE" -frames:v 3 -c:v png -pix_fmt rgba alpha_png.mov
ffmpeg -f lavfi -i "$WAVES,$FADE" -frames:v 3 -pix_fmt rgba -plays 0 -f apng alpha_apng.png
over alpha_vp9.webm alpha_vp9 "-c:v libvpx-vp9"
over alpha_prores.mov alpha_prores
over alpha_png.mov alpha_png
over alpha_apng.png alpha_apng "-f apng"

# Timing: the second half four times slower; interlaced; B-frames with few key frames.
ffmpeg -f lavfi -i "$WAVES" -vf "setpts='if(lt(N,3),N,3+4*(N-3))/12/TB'" -vsync vfr $(lossless) vfr.mp4
ffmpeg -f lavfi -i "$WAVES" -vf format=yuv420p -c:v libx264 -qp 0 -flags +ildct+ilme -x264opts tff=1 interlaced.mp4
ffmpeg -f lavfi -i "color=s=16x16:r=25:d=4,format=gray,geq=lum='2*N+8'" -pix_fmt yuv420p -c:v libx264 -qp 0 -g 30 -bf 3 long.mp4

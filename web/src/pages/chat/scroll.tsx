// A long list that scrolls smoothly: only the pieces near what is seen are there, the others keep their place.
import { type ReactNode, type RefObject, useEffect, useLayoutEffect, useRef, useState } from "react";

const NEAR = "1200px 0px"; // how far beyond what is seen
const GUESS = 140; // pixels of an item that was never seen
const BOTTOM = 80; // so near to the end counts as being there
export const PIECE = 8; // items that come and go together: few enough to be drawn within a frame

/** Some items that are drawn while they are near; `begins` says whether they are there at once. */
export function Piece({ count, begins, root, children }: { count: number; begins: boolean; root: RefObject<HTMLElement | null>; children: () => ReactNode }) {
  const ref = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(begins);
  const height = useRef(count * GUESS);
  useEffect(() => {
    const watched = ref.current!;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (!entry!.isIntersecting && entry!.boundingClientRect.height > 0) height.current = entry!.boundingClientRect.height;
        setNear(entry!.isIntersecting);
      },
      { root: root.current, rootMargin: NEAR },
    );
    observer.observe(watched);
    return () => observer.disconnect();
  }, [root]);
  return (
    <div ref={ref} className="piece" style={near ? undefined : { height: height.current }}>
      {near && children()}
    </div>
  );
}

/** Keep the end in sight while what is above it grows, unless somebody reads further up; tell whether it is in sight. */
export function useEnd(scroller: RefObject<HTMLElement | null>, content: RefObject<HTMLElement | null>, key: string) {
  const [atEnd, setAtEnd] = useState(true);
  const stick = useRef(true);
  const toEnd = () => {
    stick.current = true;
    setAtEnd(true);
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  };
  useLayoutEffect(toEnd, [key]);
  useEffect(() => {
    const outer = scroller.current!;
    const onScroll = () => {
      stick.current = outer.scrollHeight - outer.scrollTop - outer.clientHeight < BOTTOM;
      setAtEnd(stick.current);
    };
    const observer = new ResizeObserver(() => stick.current && outer.scrollTo({ top: outer.scrollHeight }));
    outer.addEventListener("scroll", onScroll, { passive: true });
    observer.observe(content.current!);
    observer.observe(outer);
    return () => {
      outer.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }, [scroller, content]);
  return { atEnd, toEnd };
}

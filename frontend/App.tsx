import { domAnimation, LazyMotion, MotionConfig } from "motion/react";
import { Boundary } from "./components/Boundary";
import { DeepfakeDetector } from "./components/DeepfakeDetector";

/** The page. With `simulate` the pipeline's animation runs alone, labelled as a demonstration and without a verdict. */
export function App() {
  return (
    <LazyMotion features={domAnimation} strict>
      <MotionConfig reducedMotion="user">
        <Boundary>
          <DeepfakeDetector simulate={false} />
        </Boundary>
      </MotionConfig>
    </LazyMotion>
  );
}

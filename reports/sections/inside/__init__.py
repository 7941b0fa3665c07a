"""Looking inside the students after training, in four sections: targets, similarity, states, angles."""
